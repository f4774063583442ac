// Convolutions and linear layers of one model on some samples. A linear layer is a convolution of 1 x 1 images.
#pragma once

#include "cuda/train_block.h"

namespace zoosparse {

constexpr int kTileChannels = 4, kTilePositions = 4;

// An output of a convolution: where its window begins, and in which sample.
struct WindowAt {
  int sample, y, x;
  int top, left;  // of the window, in the input without its border
};

ZOOSPARSE_HOST_DEVICE static inline WindowAt window_at(const TrainOp& op, int sample, int y, int x) {
  return {sample, y, x, y * op.stride_height - op.padding_height, x * op.stride_width - op.padding_width};
}

// 0 <= value < limit.
ZOOSPARSE_HOST_DEVICE static inline bool is_below(int value, int limit) {
  return static_cast<unsigned>(value) < static_cast<unsigned>(limit);
}

ZOOSPARSE_HOST_DEVICE static inline bool is_inside(const TrainOp& op, int y, int x) {
  return is_below(y, op.in_height) && is_below(x, op.in_width);
}

ZOOSPARSE_HOST_DEVICE static inline const uint8_t* winners_of(const BlockStage& stage, const float* sample) {
  return reinterpret_cast<const uint8_t*>(sample + stage.saved);
}

// ---- Forward --------------------------------------------------------------------------------------------------------

// Sums of `channels` outputs, whose weights begin at rows, over `positions` windows. All loops over a tile unroll, so
// that it stays in registers.
template <int channels, int positions, bool variational>
struct ConvTile {
  float mean[channels][positions];
  float variance[variational ? channels : 1][positions];
};

// sum[o][p] += weight of channel o at a tap * x[p].
template <int channels, int positions>
ZOOSPARSE_HOST_DEVICE static inline void add_products(const float* weight, const int32_t (&row)[channels], int32_t tap,
                                                      const float (&x)[positions], float (&sum)[channels][positions]) {
  ZOOSPARSE_UNROLL
  for (int o = 0; o < channels; ++o) {
    const float w = weight[row[o] + tap];
    ZOOSPARSE_UNROLL
    for (int p = 0; p < positions; ++p) sum[o][p] += w * x[p];
  }
}

template <int channels, int positions, bool padded, bool variational>
ZOOSPARSE_HOST_DEVICE static inline void sum_windows(const TrainOp& op, const float* weight, const float* variance,
                                                     const int32_t (&row)[channels],
                                                     const float* const (&image)[positions],
                                                     const WindowAt (&window)[positions],
                                                     ConvTile<channels, positions, variational>& tile) {
  int32_t tap = 0;
  for (int c = 0; c < op.in_channels; ++c)
    for (int i = 0; i < op.kernel_height; ++i)
      for (int j = 0; j < op.kernel_width; ++j, ++tap) {
        float x[positions];
        ZOOSPARSE_UNROLL
        for (int p = 0; p < positions; ++p) {
          const int y = window[p].top + i, column = window[p].left + j;
          const bool inside = !padded || is_inside(op, y, column);
          x[p] = inside ? image[p][(c * op.in_height + y) * op.in_width + column] : 0.0f;
        }
        add_products<channels>(weight, row, tap, x, tile.mean);
        if constexpr (variational) {
          float squares[positions];
          ZOOSPARSE_UNROLL
          for (int p = 0; p < positions; ++p) squares[p] = x[p] * x[p];
          add_products<channels>(variance, row, tap, squares, tile.variance);
        }
      }
}

// The same for the four windows of a 2 x 2 pool at stride 1: from one tap to the next, what the right windows saw is
// what the left ones see, so that two inputs are read instead of four.
template <int channels, bool padded, bool variational>
ZOOSPARSE_HOST_DEVICE static inline void sum_pool(const TrainOp& op, const float* weight, const float* variance,
                                                  const int32_t (&row)[channels], const float* image,
                                                  const WindowAt& first, ConvTile<channels, 4, variational>& tile) {
  const auto input = [&](int c, int y, int x) {
    return !padded || is_inside(op, y, x) ? image[(c * op.in_height + y) * op.in_width + x] : 0.0f;
  };
  int32_t tap = 0;
  for (int c = 0; c < op.in_channels; ++c)
    for (int i = 0; i < op.kernel_height; ++i) {
      const int y = first.top + i;
      float x[4] = {0.0f, input(c, y, first.left), 0.0f, input(c, y + 1, first.left)};
      for (int j = 0; j < op.kernel_width; ++j, ++tap) {
        const int right = first.left + j + 1;
        x[0] = x[1];
        x[1] = input(c, y, right);
        x[2] = x[3];
        x[3] = input(c, y + 1, right);
        add_products<channels>(weight, row, tap, x, tile.mean);
        if constexpr (variational) {
          const float squares[4] = {x[0] * x[0], x[1] * x[1], x[2] * x[2], x[3] * x[3]};
          add_products<channels>(variance, row, tap, squares, tile.variance);
        }
      }
    }
}

// Adds noise of the given variance; the variance becomes the derivative of the sum with respect to it.
template <int channels, int positions, class Team>
ZOOSPARSE_HOST_DEVICE static inline void add_noise(const Block<Team>& block, const BlockStage& stage,
                                                   const SampleRun& run, int first, const WindowAt (&window)[positions],
                                                   ConvTile<channels, positions, true>& tile) {
  const TrainOp& op = stage.op;
  ScalarStream random{};
  int sample = -1;
  ZOOSPARSE_UNROLL
  for (int o = 0; o < channels; ++o) {
    ZOOSPARSE_UNROLL
    for (int p = 0; p < positions; ++p) {
      if (window[p].sample != sample) {
        sample = window[p].sample;
        random = block.stream(kVariationalStream, stage.index, run, sample);
      }
      const uint32_t element =
          static_cast<uint32_t>(((first + o) * op.out_height + window[p].y) * op.out_width + window[p].x);
      const float noise = random.normal(element);
      const float deviation = Scalar::sqrt(tile.variance[o][p] + kVarianceEpsilon);
      tile.mean[o][p] += deviation * noise;
      tile.variance[o][p] = 0.5f * noise / deviation;
    }
  }
}

// Channels [first, first + channels), as far as there are so many, of some windows: computed, and with a pool the
// largest of its four, the first of equals, written.
template <int channels, int positions, bool pooled, bool padded, bool variational, class Team>
ZOOSPARSE_HOST_DEVICE static inline void forward_tile(const Block<Team>& block, const BlockStage& stage,
                                                      const SampleRun& run, int first,
                                                      const WindowAt (&window)[positions], int windows) {
  const TrainOp& op = stage.op;
  const float* image[positions];
  int32_t row[channels];
  ConvTile<channels, positions, variational> tile;
  const bool noisy_bias = block.has_variational_bias(op);
  ZOOSPARSE_UNROLL
  for (int p = 0; p < positions; ++p) image[p] = block.sample(window[p].sample) + stage.input;
  ZOOSPARSE_UNROLL
  for (int o = 0; o < channels; ++o) {
    const int channel = first + o < op.out_channels ? first + o : first;
    row[o] = channel * stage.taps;
    const float mean = op.bias < 0 ? 0.0f : block.memory.weights[op.bias + channel];
    const float variance = noisy_bias && op.bias >= 0 ? block.memory.variance[op.bias + channel] : 0.0f;
    ZOOSPARSE_UNROLL
    for (int p = 0; p < positions; ++p) {
      tile.mean[o][p] = mean;
      if constexpr (variational) tile.variance[o][p] = variance;
    }
  }
  const float* const weights = block.memory.weights + op.weight;
  const float* const variances = block.memory.variance + (variational ? op.weight : 0);
  if (pooled && op.stride_height == 1 && op.stride_width == 1) {
    if constexpr (pooled)
      sum_pool<channels, padded, variational>(op, weights, variances, row, image[0], window[0], tile);
  } else {
    sum_windows<channels, positions, padded, variational>(op, weights, variances, row, image, window, tile);
  }
  if constexpr (variational) add_noise<channels, positions>(block, stage, run, first, window, tile);

  const int width = pooled ? stage.columns / 2 : stage.columns, plane = stage.out_elements / op.out_channels;
  ZOOSPARSE_UNROLL
  for (int o = 0; o < channels; ++o) {
    if (first + o >= op.out_channels) continue;
    if constexpr (pooled) {
      float* const sample = block.sample(window[0].sample);
      float best = tile.mean[o][0], spread = variational ? tile.variance[0][0] : 0.0f;
      if constexpr (variational) spread = tile.variance[o][0];
      int which = 0;
      ZOOSPARSE_UNROLL
      for (int p = 1; p < positions; ++p) {
        if (!(tile.mean[o][p] > best)) continue;
        best = tile.mean[o][p];
        which = p;
        if constexpr (variational) spread = tile.variance[o][p];
      }
      const int to = (first + o) * plane + window[0].y / 2 * width + window[0].x / 2;
      sample[stage.output + to] = best;
      reinterpret_cast<uint8_t*>(sample + stage.saved)[to] = static_cast<uint8_t>(which);
      if constexpr (variational) sample[stage.deviation + to] = spread;
    } else {
      ZOOSPARSE_UNROLL
      for (int p = 0; p < positions; ++p) {
        if (p >= windows) continue;
        float* const sample = block.sample(window[p].sample);
        const int to = (first + o) * plane + window[p].y * width + window[p].x;
        sample[stage.output + to] = tile.mean[o][p];
        if constexpr (variational) sample[stage.deviation + to] = tile.variance[o][p];
      }
    }
  }
}

// Neighbouring threads take neighbouring outputs, so that they read neighbouring inputs.
template <int channels, int positions, bool pooled, bool padded, bool variational, class Team>
ZOOSPARSE_HOST_DEVICE static inline void forward_tiles(const Block<Team>& block, const BlockStage& stage,
                                                       const SampleRun& run) {
  const TrainOp& op = stage.op;
  const int columns = pooled ? stage.columns / 2 : stage.columns, rows = pooled ? stage.rows / 2 : stage.rows;
  const int plane = rows * columns, places = run.count * plane;
  const int step = pooled ? places : (places + positions - 1) / positions;
  const int tiles = (op.out_channels + channels - 1) / channels;
  block.team.each(tiles * step, [&](int task) {
    const int tile = task / step, place = task % step;
    WindowAt window[positions];
    int windows = 0;
    ZOOSPARSE_UNROLL
    for (int p = 0; p < positions; ++p) {
      int at = pooled ? place : place + p * step;
      if (at < places)
        ++windows;
      else
        at = place;
      const int sample = at / plane, y = at % plane / columns, x = at % columns;
      window[p] = pooled ? window_at(op, sample, 2 * y + p / 2, 2 * x + p % 2) : window_at(op, sample, y, x);
    }
    forward_tile<channels, positions, pooled, padded, variational>(block, stage, run, tile * channels, window, windows);
  });
}

template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void convolution_forward(const Block<Team>& block, const BlockStage& stage,
                                                             const SampleRun& run) {
  const TrainOp& op = stage.op;
  const bool has_border = op.padding_height > 0 || op.padding_width > 0;
  const int tiles = (op.out_channels + kTileChannels - 1) / kTileChannels;
  const bool enough = tiles * run.count * stage.rows * stage.columns >= block.team.threads() * kTilePositions;
  with_bool(has_border, [&](auto padded) {
    with_bool(block.plan.variational, [&](auto variational) {
      constexpr bool border = decltype(padded)::value, noisy = decltype(variational)::value;
      if (stage.pooled && enough)
        forward_tiles<kTileChannels, 4, true, border, noisy>(block, stage, run);
      else if (stage.pooled)
        forward_tiles<kTileChannels / 2, 4, true, border, noisy>(block, stage, run);
      else if (enough)
        forward_tiles<kTileChannels, kTilePositions, false, border, noisy>(block, stage, run);
      else
        forward_tiles<1, 1, false, border, noisy>(block, stage, run);
    });
  });
}

}  // namespace zoosparse
