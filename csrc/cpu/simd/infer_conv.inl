// Convolutions with images in the lanes, dense and sparse: a weight is one number for all lanes, so whatever a mask
// leaves of a layer is a shorter list of multiply-adds on full vectors.
//
// An output (channel, y, x) is a sum over taps: input at byte tap offset + y * row step + x * vector size, times
// weight. A tile of OT channels x R rows x Q columns of outputs stays in registers; a 2 x 2 max pool (R = 2) is taken
// there too.
#pragma once

#include "common/infer_plan.h"
#include "cpu/simd/train_conv.inl"
#include "cpu/simd/train_layers.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

constexpr int kDenseChannels = 3, kLinearChannels = 8;  // output channels of a dense tile on planes, on one position

// Outputs in a row (after the pool) of a tile of OT channels.
template <int W>
constexpr int outputs_in_row(int channels, int pool) {
  const int width = kTileRegisters<W> / (channels * pool * pool);
  return width < 1 ? 1 : width > 12 ? 12 : width;
}

// The taps of some channels of a dense layer: all have the same offsets.
struct DenseTaps {
  const float* weights;  // [OT][count]
  const int32_t* offsets;
  int count;
  int32_t offset(int k) const { return offsets[k]; }
  float value(int channel, int k) const { return weights[channel * count + k]; }
};

// The taps of one channel of a sparse layer.
struct SparseTaps {
  const SparseTap* taps;
  int count;
  int32_t offset(int k) const { return taps[k].offset; }
  float value(int, int k) const { return taps[k].value; }
};

// Largest of four; NaN if any of them is.
template <int W>
ZOOSPARSE_INLINE Floats<W> largest_of(Floats<W> a, Floats<W> b, Floats<W> c, Floats<W> d) {
  const Ints<W> nan = unordered<W>(a, b) | unordered<W>(c, d);
  a = max_of<Floats<W>>(a, b);
  c = max_of<Floats<W>>(c, d);
  return bits_as<Floats<W>>(bits_as<Ints<W>>(max_of<Floats<W>>(a, c)) | nan);
}

// out[i][x] for OT channels and `outputs` columns; out has `stride` vectors a channel. bias may be null. If `finite`,
// no sum is NaN.
template <int W, int OT, int pool, int outputs, class Taps>
ZOOSPARSE_INLINE void conv_tile(const Taps& taps, const float* bias, const char* x, int64_t row_step, bool finite,
                                Floats<W>* out, int stride) {
  constexpr int columns = outputs * pool, positions = columns * pool;
  Floats<W> sum[OT][positions];
  for (int i = 0; i < OT; ++i) {
    ZOOSPARSE_UNROLL
    for (int j = 0; j < positions; ++j) sum[i][j] = bias == nullptr ? Floats<W>{} : broadcast<W>(bias[i]);
  }
  for (int k = 0; k < taps.count; ++k) {
    const char* row[2] = {x + taps.offset(k), x + taps.offset(k) + row_step};
    asm(""
        : "+r"(row[1]));  // an address of its own: else GCC holds one for every column, more than there are registers
    outer_product<W>(
        sum, [&](int i) ZOOSPARSE_LAMBDA { return broadcast<W>(taps.value(i, k)); },
        [&](int j) ZOOSPARSE_LAMBDA { return reinterpret_cast<const Floats<W>*>(row[j / columns])[j % columns]; });
  }
  const auto pooled = [&](const auto& largest) ZOOSPARSE_LAMBDA {
    for (int i = 0; i < OT; ++i)
      for (int j = 0; j < outputs; ++j) {
        const Floats<W>* window = sum[i] + 2 * j;
        out[i * stride + j] = largest(window[0], window[1], window[columns], window[columns + 1]);
      }
  };
  typedef Floats<W> F;
  if constexpr (pool == 1) {
    for (int i = 0; i < OT; ++i)
      for (int j = 0; j < outputs; ++j) out[i * stride + j] = sum[i][j];
  } else if (finite) {
    pooled([](F a, F b, F c, F d) ZOOSPARSE_LAMBDA { return max_of<F>(max_of<F>(a, b), max_of<F>(c, d)); });
  } else {
    pooled([](F a, F b, F c, F d) ZOOSPARSE_LAMBDA { return largest_of<W>(a, b, c, d); });
  }
}

// One output of a list of taps: four sums, so that additions need not wait for each other.
template <int W>
Floats<W> sparse_sum(const SparseTaps& taps, float bias, const char* x) {
  Floats<W> sum[4] = {broadcast<W>(bias), Floats<W>{}, Floats<W>{}, Floats<W>{}};
  const auto product = [&](int k) ZOOSPARSE_LAMBDA {
    return broadcast<W>(taps.value(0, k)) * *reinterpret_cast<const Floats<W>*>(x + taps.offset(k));
  };
  int k = 0;
  for (; k + 4 <= taps.count; k += 4)
    for (int i = 0; i < 4; ++i) sum[i] += product(k + i);
  for (; k < taps.count; ++k) sum[0] += product(k);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// A row of outputs of OT channels, in tiles.
template <int W, int OT, int pool, class Taps>
void conv_row(const InferStage& stage, const Taps& taps, const float* bias, const char* x, bool finite,
              Floats<W>* out) {
  constexpr int widest = outputs_in_row<W>(OT, pool);
  const int width = stage.out.width, tiles = parts(width, widest);
  for (int t = 0; t < tiles; ++t) {
    const Part tile = part(width, tiles, t);
    with_constant<widest>(tile.size, [&](auto size) ZOOSPARSE_LAMBDA {
      conv_tile<W, OT, pool, size.value>(taps, bias, x + tile.first * (pool * W * 4), stage.row_step, finite,
                                         out + tile.first, width);
    });
  }
}

// A row of outputs of all channels, out [channels][width].
template <int W, int pool>
void dense_row(const InferStage& stage, const InferModel& model, const float* bias, const char* x, Floats<W>* out) {
  const float* weights = model.weights + stage.op.weight;
  const auto run = [&](auto most) ZOOSPARSE_LAMBDA {
    constexpr int limit = decltype(most)::value;
    const int channels = stage.op.out_channels, tiles = parts(channels, limit);
    for (int t = 0; t < tiles; ++t) {
      const Part tile = part(channels, tiles, t);
      const DenseTaps taps{weights + static_cast<int64_t>(tile.first) * stage.taps, stage.tap_offset, stage.taps};
      const float* tile_bias = bias == nullptr ? nullptr : bias + tile.first;
      Floats<W>* tile_out = out + tile.first * stage.out.width;
      with_constant<limit>(tile.size, [&](auto size) ZOOSPARSE_LAMBDA {
        if constexpr (limit == kLinearChannels)
          conv_tile<W, size.value, 1, 1>(taps, tile_bias, x, 0, model.finite, tile_out, 1);
        else
          conv_row<W, size.value, pool>(stage, taps, tile_bias, x, model.finite, tile_out);
      });
    }
  };
  if (pool == 1 && stage.out.width == 1) return run(Constant<kLinearChannels>{});
  run(Constant<kDenseChannels>{});
}

template <int W, int pool>
void sparse_row(const InferStage& stage, const InferModel& model, const float* bias, const char* x, Floats<W>* out) {
  const int32_t* starts = model.starts + stage.first_channel;
  for (int o = 0; o < stage.op.out_channels; ++o, out += stage.out.width) {
    const SparseTaps taps{model.taps + starts[o], starts[o + 1] - starts[o]};
    if (pool == 1 && stage.out.width == 1)
      *out = sparse_sum<W>(taps, bias == nullptr ? 0.0f : bias[o], x);
    else if (taps.count > 0)
      conv_row<W, 1, pool>(stage, taps, bias == nullptr ? nullptr : bias + o, x, model.finite, out);
  }
}

// A channel without weights is the same everywhere, in the first row as in all: the activation of its bias. Rows of a
// single output that is not pooled are sums even of nothing.
template <int W>
bool is_constant(const InferStage& stage, const InferModel& model, int channel) {
  const int32_t* starts = model.starts + stage.first_channel;
  const bool rows = stage.out.width > 1 || stage.pool > 1;
  return model.sparse[stage.number] && rows && starts[channel] == starts[channel + 1];
}

template <int W>
void fill_constant_channels(const InferStage& stage, const InferModel& model, const float* bias, Floats<W>* memory) {
  for (int o = 0; o < stage.op.out_channels; ++o) {
    if (!is_constant<W>(stage, model, o)) continue;
    Floats<W> value = broadcast<W>(bias == nullptr ? 0.0f : bias[o]);
    with_activation<W>(stage.activation, stage.slope, [&](const auto& function) { value = function(value).value; });
    for (int y = 0; y < stage.out.height; ++y) {
      Floats<W>* row = memory + row_of(stage.out, o, y);
      for (int i = 0; i < stage.out.width; ++i) row[stage.out_column[i]] = value;
    }
  }
}

template <int W, int pool>
void convolution(const InferPlan& plan, const InferStage& stage, const InferModel& model, Floats<W>* memory) {
  const float* bias = stage.op.bias < 0 ? nullptr : model.weights + stage.op.bias;
  const bool sparse = model.sparse[stage.number] != 0;
  Floats<W>* scratch = memory + plan.scratch;
  if (sparse) fill_constant_channels<W>(stage, model, bias, memory);
  // Row by row over all channels: the rows that a row of outputs reads stay in L1.
  for (int y = 0; y < stage.out.height; ++y) {
    const char* x = reinterpret_cast<const char*>(memory + stage.in.place) + y * pool * stage.row_step;
    if (sparse)
      sparse_row<W, pool>(stage, model, bias, x, scratch);
    else
      dense_row<W, pool>(stage, model, bias, x, scratch);
    with_activation<W>(stage.activation, stage.slope, [&](const auto& function) {
      for (int o = 0; o < stage.op.out_channels; ++o) {
        if (is_constant<W>(stage, model, o)) continue;
        const Floats<W>* from = scratch + o * stage.out.width;
        Floats<W>* row = memory + row_of(stage.out, o, y);
        for (int i = 0; i < stage.out.width; ++i) row[stage.out_column[i]] = function(from[i]).value;
      }
    });
  }
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
