// Inference as one lane of a warp sees it: one image of a tile of 32. Every function runs on the CPU as well, where
// ctest plays all lanes of all warps in turn; csrc/cuda/infer.cu adds memory and reductions.
//
// The plan is that of the CPU with 32 images in the lanes: a weight is one number for all of them, the inputs of a warp
// are 128 neighbouring bytes, and what a mask leaves of a layer is a shorter list of multiply-adds. A stage is cut into
// tasks, tiles of outputs in registers, which warps take in turn.
#pragma once

#include <math.h>

#include <cstdint>

#include "common/host_device.h"
#include "common/infer_plan.h"
#include "common/scalar.h"

#if defined(__CUDA_ARCH__)
#define ZOOSPARSE_ROLLED _Pragma("unroll 1")
#else
#define ZOOSPARSE_ROLLED
#endif

namespace zoosparse {

constexpr int kTileImages = 32;
constexpr int64_t kVectorBytes32 = kTileImages * 4;

// Whether a convolution runs as a list of its weights that are not zero. A dense tile of 4 channels x 8 positions loads
// 13 numbers for 32 multiply-adds, a list 9 for 8: with loads as the bound, a weight in a list costs 2.8 times as much.
constexpr float kCostOfListedWeight = 2.8f;
ZOOSPARSE_HOST_DEVICE static inline bool list_pays(int64_t kept, int64_t all) {
  return kCostOfListedWeight * static_cast<float>(kept) <= static_cast<float>(all);
}

// One model. The list of a channel of a sparse layer begins where the dense weights of that channel do.
struct LaneModel {
  const float* weights;   // [P]
  const SparseTap* taps;  // [P]
  const int32_t* counts;  // [channels]: lengths of the lists
  const int32_t* sparse;  // [convolutions]
};

// The lane's place in the activations: the image, and everything after it. Places of the plan count from the image on.
struct LaneMemory {
  const float* image;  // its first vector is place 0
  float* hidden;       // its first vector is place hidden_place
  int64_t hidden_place;
};

struct WarpPlace {
  int warp, warps;
};

// ---- Images
// ------------------------------------------------------------------------------------------------------------

// `pixel` counts the elements of [C, H, W].
ZOOSPARSE_HOST_DEVICE static inline int64_t place_of_pixel(const InferLayout& layout, int64_t pixel) {
  const int64_t row = pixel / layout.width;
  return row_of(layout, static_cast<int32_t>(row / layout.height), static_cast<int32_t>(row % layout.height)) +
         column_of(layout, static_cast<int32_t>(pixel % layout.width));
}

// As the network sees it.
ZOOSPARSE_HOST_DEVICE static inline float pixel_of_image(const InferLayout& layout, const InferImages& images,
                                                         int64_t image, int64_t pixel) {
  const int64_t plane = static_cast<int64_t>(layout.height) * layout.width, channel = pixel / plane;
  const int64_t at = image * layout.channels * plane + pixel;
  const float value = images.u8 != nullptr ? static_cast<float>(images.u8[at]) : images.f32[at];
  return value * images.scale[channel] + images.shift[channel];
}

// ---- Convolutions -------------------------------------------------------------------------------------------------

struct LaneDenseTaps {
  const float* weights;  // [channels][count]
  const int32_t* offsets;
  int count;
  ZOOSPARSE_HOST_DEVICE int32_t offset(int k) const { return offsets[k]; }
  ZOOSPARSE_HOST_DEVICE float value(int channel, int k) const { return weights[channel * count + k]; }
};

struct LaneListedTaps {
  const SparseTap* taps;
  int count;
  ZOOSPARSE_HOST_DEVICE int32_t offset(int k) const { return taps[k].offset; }
  ZOOSPARSE_HOST_DEVICE float value(int, int k) const { return taps[k].value; }
};

// The larger one; NaN if either is.
ZOOSPARSE_HOST_DEVICE static inline float larger_or_nan(float a, float b) { return a > b || a != a ? a : b; }

// Outputs [channels][columns] from the input at x; with pool 2, each is the largest of 2 x 2 positions.
template <int channels, int columns, int pool, class Taps>
ZOOSPARSE_HOST_DEVICE static inline void conv_tile(const Taps& taps, const float* bias, const char* x, int64_t row_step,
                                                   float (&out)[channels][columns]) {
  constexpr int wide = columns * pool, positions = wide * pool;
  float sum[channels][positions];
  for (int i = 0; i < channels; ++i)
    for (int j = 0; j < positions; ++j) sum[i][j] = bias == nullptr ? 0.0f : bias[i];
  for (int k = 0; k < taps.count; ++k) {
    const char* const at = x + taps.offset(k);
    float input[positions];
    for (int j = 0; j < positions; ++j)
      input[j] = *reinterpret_cast<const float*>(at + j / wide * row_step + j % wide * kVectorBytes32);
    for (int i = 0; i < channels; ++i)
      for (int j = 0; j < positions; ++j) sum[i][j] += taps.value(i, k) * input[j];
  }
  for (int i = 0; i < channels; ++i)
    for (int j = 0; j < columns; ++j) {
      out[i][j] = sum[i][pool * j];
      for (int q = 1; q < pool * pool; ++q)
        out[i][j] = larger_or_nan(out[i][j], sum[i][q / pool * wide + pool * j + q % pool]);
    }
}

template <int channels, int columns, int pool, class Taps>
ZOOSPARSE_HOST_DEVICE static inline void write_tile(const InferStage& stage, const Taps& taps, const float* bias,
                                                    int channel, int y, int column, const char* in, float* out) {
  float values[channels][columns];
  conv_tile<channels, columns, pool>(taps, bias, in + pool * (y * stage.row_step + column * kVectorBytes32),
                                     stage.row_step, values);
  float* const to = out + (row_of(stage.out, channel, y) - stage.out.place) * kTileImages;
  const int64_t plane = static_cast<int64_t>(stage.out.plane) * kTileImages;
  for (int i = 0; i < channels; ++i)
    for (int j = 0; j < columns; ++j) to[i * plane + stage.out_column[column + j] * kTileImages] = values[i][j];
  if (stage.activation == ActivationKind::identity) return;
  // Out of the registers and back: 32 copies of seven activations would not fit the caches of instructions.
  ZOOSPARSE_ROLLED
  for (int i = 0; i < channels * columns; ++i) {
    float& value = to[i / columns * plane + stage.out_column[column + i % columns] * kTileImages];
    value = activated_as(stage.activation, stage.slope, value).value;
  }
}

// The columns [column, column + columns) of a row, as far as there are so many.
template <int channels, int columns, int pool, class Taps>
ZOOSPARSE_HOST_DEVICE static inline void write_columns(const InferStage& stage, const Taps& taps, const float* bias,
                                                       int channel, int y, int column, const char* in, float* out) {
  if (column + columns <= stage.out.width)
    return write_tile<channels, columns, pool>(stage, taps, bias, channel, y, column, in, out);
  for (; column < stage.out.width; ++column)
    write_tile<channels, 1, pool>(stage, taps, bias, channel, y, column, in, out);
}

template <int pool>
ZOOSPARSE_HOST_DEVICE static inline void convolution_of_lane(const InferStage& stage, const LaneModel& model,
                                                             const char* in, float* out, WarpPlace place) {
  constexpr int columns = pool == 1 ? 8 : 2, channels = 4;
  const float* const biases = stage.op.bias < 0 ? nullptr : model.weights + stage.op.bias;
  const bool sparse = model.sparse[stage.number] != 0;
  const int across = (stage.out.width + columns - 1) / columns, rows = stage.out.height * across;
  const int tiles = sparse ? stage.op.out_channels : (stage.op.out_channels + channels - 1) / channels;
  for (int task = place.warp; task < tiles * rows; task += place.warps) {
    const int tile = task / rows, y = task % rows / across, column = task % across * columns;
    if (sparse) {
      const LaneListedTaps taps{model.taps + stage.op.weight + static_cast<int64_t>(tile) * stage.taps,
                                model.counts[stage.first_channel + tile]};
      write_columns<1, columns, pool>(stage, taps, biases == nullptr ? nullptr : biases + tile, tile, y, column, in,
                                      out);
      continue;
    }
    const int first = tile * channels, last = first + channels;
    const LaneDenseTaps taps{model.weights + stage.op.weight + static_cast<int64_t>(first) * stage.taps,
                             stage.tap_offset, stage.taps};
    if (last <= stage.op.out_channels) {
      write_columns<channels, columns, pool>(stage, taps, biases == nullptr ? nullptr : biases + first, first, y,
                                             column, in, out);
      continue;
    }
    for (int o = first; o < stage.op.out_channels; ++o) {
      const LaneDenseTaps one{taps.weights + static_cast<int64_t>(o - first) * stage.taps, taps.offsets, taps.count};
      write_columns<1, columns, pool>(stage, one, biases == nullptr ? nullptr : biases + o, o, y, column, in, out);
    }
  }
}

// ---- Stages without weights ---------------------------------------------------------------------------------------

// Largest or mean of a window; `in` is the lane's first float of the stage's input.
ZOOSPARSE_HOST_DEVICE static inline float pool_window(const InferStage& stage, int c, int y, int x, const float* in) {
  const TrainOp& op = stage.op;
  const bool largest = stage.kind == InferKind::max_pool;
  float result = largest ? -INFINITY : 0.0f;
  for (int i = 0; i < op.kernel_height; ++i)
    for (int j = 0; j < op.kernel_width; ++j) {
      const int row = y * op.stride_height - op.padding_height + i, column = x * op.stride_width - op.padding_width + j;
      if (row < 0 || row >= stage.in.height || column < 0 || column >= stage.in.width) continue;
      const float value = in[(row_of(stage.in, c, row) - stage.in.place + column_of(stage.in, column)) * kTileImages];
      result = largest ? larger_or_nan(value, result) : result + value;
    }
  return largest ? result : result * (1.0f / static_cast<float>(op.kernel_height * op.kernel_width));
}

ZOOSPARSE_HOST_DEVICE static inline void elements_of_lane(const InferStage& stage, const float* in, float* out,
                                                          WarpPlace place) {
  for (int task = place.warp; task < stage.out.channels * stage.out.height; task += place.warps) {
    const int c = task / stage.out.height, y = task % stage.out.height;
    const float* const from = in + (row_of(stage.in, c, y) - stage.in.place) * kTileImages;
    float* const to = out + (row_of(stage.out, c, y) - stage.out.place) * kTileImages;
    for (int x = 0; x < stage.out.width; ++x) {
      const float value =
          stage.kind == InferKind::copy ? from[column_of(stage.in, x) * kTileImages] : pool_window(stage, c, y, x, in);
      to[stage.out_column[x] * kTileImages] = activated_as(stage.activation, stage.slope, value).value;
    }
  }
}

// ---- A stage, and the verdict -------------------------------------------------------------------------------------

ZOOSPARSE_HOST_DEVICE static inline void stage_from(const InferStage& stage, const LaneModel& model, const float* in,
                                                    float* out, WarpPlace place) {
  if (stage.kind != InferKind::convolution) return elements_of_lane(stage, in, out, place);
  const char* const bytes = reinterpret_cast<const char*>(in);
  if (stage.pool == 2)
    convolution_of_lane<2>(stage, model, bytes, out, place);
  else
    convolution_of_lane<1>(stage, model, bytes, out, place);
}

// The lane's share of a stage; all lanes of all warps must have done theirs before the next stage.
ZOOSPARSE_HOST_DEVICE static inline void stage_of_lane(const InferStage& stage, const LaneModel& model,
                                                       const LaneMemory& memory, WarpPlace place) {
  float* const out = memory.hidden + (stage.out.place - memory.hidden_place) * kTileImages;
  // Two calls, so that the compiler knows which of them reads shared memory.
  if (stage.in.place < memory.hidden_place)
    stage_from(stage, model, memory.image + stage.in.place * kTileImages, out, place);
  else
    stage_from(stage, model, memory.hidden + (stage.in.place - memory.hidden_place) * kTileImages, out, place);
}

ZOOSPARSE_HOST_DEVICE static inline const float* scores_of_lane(const InferPlan& plan, const LaneMemory& memory) {
  return plan.scores < memory.hidden_place ? memory.image + plan.scores * kTileImages
                                           : memory.hidden + (plan.scores - memory.hidden_place) * kTileImages;
}

struct LaneVerdict {
  float loss;
  int32_t predicted;
};

// A prediction is the first of the largest scores, NaN counted as the smallest; a NaN among them makes a NaN loss.
ZOOSPARSE_HOST_DEVICE static inline LaneVerdict judge_lane(const float* scores, int classes, int64_t label) {
  float largest = -INFINITY, of_label = 0.0f, sum = 0.0f;
  int32_t best = 0;
  for (int c = 0; c < classes; ++c) {
    const float score = scores[c * kTileImages];
    if (score > largest) largest = score, best = c;
    if (c == label) of_label = score;
  }
  for (int c = 0; c < classes; ++c) sum += expf(scores[c * kTileImages] - largest);
  return {logf(sum) + (largest - of_label), best};
}

}  // namespace zoosparse
