// Convolutions with models in the lanes: every number is a vector of W models, so each multiply-add is a full vector
// whatever the sizes of the layer, and weight gradients need no reduction across lanes.
//
// Weights are [out][K], K = in * kernel height * kernel width; a position p sees input element
// position_offset[p] + tap_offset[k]. Tiles of output channels x positions (or taps) stay in registers.
#pragma once

#include "common/host_device.h"
#include "cpu/simd/math.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// Accumulators of a tile: what the register file holds beside the operands.
template <int W>
constexpr int kTileRegisters = W * 4 == 64 && kVectorBytes == 64 ? 24 : 12;
constexpr int kTileChannels = 4;

// How many positions go with a number of channels in a full tile.
template <int W>
constexpr int tile_width(int channels) {
  const int width = kTileRegisters<W> / channels;
  return width > 6 ? 6 : width;
}

// Part i of `count` items cut into the fewest parts of at most `size`, as evenly as possible: no thin last tile.
struct Part {
  int first, size;
};
inline int parts(int count, int size) { return (count + size - 1) / size; }
inline Part part(int count, int total, int i) {
  const int base = count / total, longer = count % total;
  return {i * base + (i < longer ? i : longer), base + (i < longer ? 1 : 0)};
}

// Calls body(integral constant size) for a run-time size in [1, limit].
template <int N>
struct Constant {
  static constexpr int value = N;
};
template <int limit, class Body>
ZOOSPARSE_INLINE void with_constant(int size, const Body& body) {
  if constexpr (limit == 1) {
    body(Constant<1>{});
  } else {
    if (size == limit) return body(Constant<limit>{});
    with_constant<limit - 1>(size, body);
  }
}

template <int W>
ZOOSPARSE_INLINE const Floats<W>& at_byte(const Floats<W>* base, int32_t offset) {
  return *reinterpret_cast<const Floats<W>*>(reinterpret_cast<const char*>(base) + offset);
}
template <int W>
ZOOSPARSE_INLINE Floats<W>& at_byte(Floats<W>* base, int32_t offset) {
  return *reinterpret_cast<Floats<W>*>(reinterpret_cast<char*>(base) + offset);
}

// A block of positions of a convolution; offsets are in bytes.
struct ConvBlock {
  int out_channels, taps, positions;
  const int32_t* tap_offset;       // [taps]
  const int32_t* position_offset;  // [positions], those of the block
};

// What the rows of a block are made of.
struct RowShape {
  int in_channels, kernel_height, kernel_width, stride_width, columns;
};

// sum[i][j] += a(i) * b(j). The shorter side stays in registers, the other passes through one.
template <int W, int A, int B, class LoadA, class LoadB>
ZOOSPARSE_INLINE void outer_product(Floats<W> (&sum)[A][B], const LoadA& a, const LoadB& b) {
  if constexpr (A < B) {
    Floats<W> held[A];
    for (int i = 0; i < A; ++i) held[i] = a(i);
    ZOOSPARSE_UNROLL
    for (int j = 0; j < B; ++j) {
      const Floats<W> value = A > 1 ? loaded<W>(b(j)) : b(j);
      for (int i = 0; i < A; ++i) sum[i][j] += held[i] * value;
    }
  } else {
    Floats<W> held[B];
    for (int j = 0; j < B; ++j) held[j] = b(j);
    ZOOSPARSE_UNROLL
    for (int i = 0; i < A; ++i) {
      const Floats<W> value = B > 1 ? loaded<W>(a(i)) : a(i);
      for (int j = 0; j < B; ++j) sum[i][j] += value * held[j];
    }
  }
}

// out[o][p] = start + sum over taps [first, last) of w[o][k] x[p, k]; start is the bias for the first taps, out for
// more.
template <int W, int OT, int PT>
ZOOSPARSE_INLINE void forward_tile(const ConvBlock& block, const Floats<W>* w, const Floats<W>* bias,
                                   const Floats<W>* x, Floats<W>* out, int stride, int position, Part taps) {
  Floats<W> sum[OT][PT];
  const Floats<W>* input[PT];
  for (int j = 0; j < PT; ++j) input[j] = &at_byte<W>(x, block.position_offset[position + j]);
  for (int i = 0; i < OT; ++i)
    for (int j = 0; j < PT; ++j) sum[i][j] = taps.first > 0 ? out[i * stride + position + j] : bias[i];
  const int last = taps.first + taps.size;
#pragma GCC unroll 4
  for (int k = taps.first; k < last; ++k) {
    const int32_t offset = block.tap_offset[k];
    outer_product<W>(
        sum, [&](int i) ZOOSPARSE_LAMBDA { return w[i * block.taps + k]; },
        [&](int j) ZOOSPARSE_LAMBDA { return at_byte<W>(input[j], offset); });
  }
  for (int i = 0; i < OT; ++i)
    for (int j = 0; j < PT; ++j) out[i * stride + position + j] = sum[i][j];
}

// OT output channels of a block: out [OT][stride].
template <int W, int OT>
void forward_channels(const ConvBlock& block, const Floats<W>* w, const Floats<W>* bias, const Floats<W>* x,
                      Floats<W>* out, int stride) {
  constexpr int kTapsInCache = 16384 / (kTileChannels * W * 4);  // a tile's weights: half of a small L1
  constexpr int width = tile_width<W>(OT);
  Floats<W> start[OT];
  for (int i = 0; i < OT; ++i) start[i] = bias == nullptr ? Floats<W>{} : bias[i];
  const int tap_parts = parts(block.taps, kTapsInCache), tiles = parts(block.positions, width);
  for (int t = 0; t < tap_parts; ++t) {
    const Part taps = part(block.taps, tap_parts, t);
    for (int i = 0; i < tiles; ++i) {
      const Part tile = part(block.positions, tiles, i);
      with_constant<width>(tile.size, [&](auto size) ZOOSPARSE_LAMBDA {
        forward_tile<W, OT, size.value>(block, w, start, x, out, stride, tile.first, taps);
      });
    }
  }
}

// dw[o][k] += sum over positions of g[o][p] x[p, k].
template <int W, int OT, int KT>
ZOOSPARSE_INLINE void weight_gradient_tile(const ConvBlock& block, const Floats<W>* g, int stride, const Floats<W>* x,
                                           Floats<W>* dw, int tap) {
  Floats<W> sum[OT][KT];
  const Floats<W>* input[KT];
  for (int j = 0; j < KT; ++j) input[j] = &at_byte<W>(x, block.tap_offset[tap + j]);
  for (int i = 0; i < OT; ++i)
    for (int j = 0; j < KT; ++j) sum[i][j] = dw[i * block.taps + tap + j];
  for (int p = 0; p < block.positions; ++p) {
    const int32_t offset = block.position_offset[p];
    outer_product<W>(
        sum, [&](int i) ZOOSPARSE_LAMBDA { return g[i * stride + p]; },
        [&](int j) ZOOSPARSE_LAMBDA { return at_byte<W>(input[j], offset); });
  }
  for (int i = 0; i < OT; ++i)
    for (int j = 0; j < KT; ++j) dw[i * block.taps + tap + j] = sum[i][j];
}

template <int W, int OT>
void weight_gradient_channels(const ConvBlock& block, const Floats<W>* g, int stride, const Floats<W>* x,
                              Floats<W>* dw) {
  const int tiles = parts(block.taps, tile_width<W>(OT));
  for (int i = 0; i < tiles; ++i) {
    const Part tile = part(block.taps, tiles, i);
    with_constant<tile_width<W>(OT)>(tile.size, [&](auto size) ZOOSPARSE_LAMBDA {
      weight_gradient_tile<W, OT, size.value>(block, g, stride, x, dw, tile.first);
    });
  }
}

// dx[p, k] += sum over output channels of w[o][k] g[o][p]: any stride.
template <int W, int KT, int PT>
ZOOSPARSE_INLINE void input_gradient_tile(const ConvBlock& block, const Floats<W>* w, const Floats<W>* g, int stride,
                                          Floats<W>* dx, int tap, int position) {
  Floats<W> sum[KT][PT] = {};
  for (int o = 0; o < block.out_channels; ++o)
    outer_product<W>(
        sum, [&](int i) ZOOSPARSE_LAMBDA { return w[o * block.taps + tap + i]; },
        [&](int j) ZOOSPARSE_LAMBDA { return g[o * stride + position + j]; });
  for (int i = 0; i < KT; ++i)
    for (int j = 0; j < PT; ++j)
      at_byte<W>(dx, block.position_offset[position + j] + block.tap_offset[tap + i]) += sum[i][j];
}

template <int W>
void scatter_input_gradient(const ConvBlock& block, const Floats<W>* w, const Floats<W>* g, int stride, Floats<W>* dx) {
  const int tap_tiles = parts(block.taps, kTileChannels);
  for (int t = 0; t < tap_tiles; ++t) {
    const Part taps = part(block.taps, tap_tiles, t);
    with_constant<kTileChannels>(taps.size, [&](auto tap_count) ZOOSPARSE_LAMBDA {
      constexpr int KT = tap_count.value, width = tile_width<W>(KT);
      const int tiles = parts(block.positions, width);
      for (int i = 0; i < tiles; ++i) {
        const Part tile = part(block.positions, tiles, i);
        with_constant<width>(tile.size, [&](auto size) ZOOSPARSE_LAMBDA {
          input_gradient_tile<W, KT, size.value>(block, w, g, stride, dx, taps.first, tile.first);
        });
      }
    });
  }
}

// Rows of inputs that rows of outputs reach, for a horizontal stride of one: XT outputs and KW taps meet in XT + KW - 1
// inputs, which stay in registers over all output channels. CT input channels go together where rows are short.
template <int W>
constexpr int kRowRegisters = kTileRegisters<W> + (kTileRegisters<W> == 12 ? 2 : 4);
template <int W>
constexpr int row_channels(int inputs) {
  return inputs > kRowRegisters<W> / 2 ? 1 : 2;
}

template <int W, int KW, int XT, int CT>
ZOOSPARSE_INLINE void input_gradient_row(const ConvBlock& block, const Floats<W>* w, int channel_taps,
                                         const Floats<W>* g, int stride, Floats<W>* dx, int64_t channel_stride) {
  Floats<W> sum[CT][XT + KW - 1];
  for (int c = 0; c < CT; ++c)
    for (int i = 0; i < XT + KW - 1; ++i) sum[c][i] = dx[c * channel_stride + i];
  for (int o = 0; o < block.out_channels; ++o) {
    const Floats<W>* weight = w + static_cast<int64_t>(o) * block.taps;
    const Floats<W>* gradient = g + static_cast<int64_t>(o) * stride;
#pragma GCC unroll 8
    for (int k = 0; k < KW; ++k)
#pragma GCC unroll 8
      for (int c = 0; c < CT; ++c) {
        const Floats<W> value = weight[c * channel_taps + k];
#pragma GCC unroll 16
        for (int x = 0; x < XT; ++x) sum[c][x + k] += value * gradient[x];
      }
  }
  for (int c = 0; c < CT; ++c)
    for (int i = 0; i < XT + KW - 1; ++i) dx[c * channel_stride + i] = sum[c][i];
}

// All rows of a block against one row of taps of channels [first, first + CT).
template <int W, int KW, int CT, int XT>
ZOOSPARSE_INLINE void input_gradient_rows(const ConvBlock& block, const RowShape& shape, const Floats<W>* w,
                                          const Floats<W>* g, int stride, Floats<W>* dx, int x, int first) {
  const int channel_taps = shape.kernel_height * KW;
  const int64_t channel_stride =
      shape.in_channels > 1 ? (block.tap_offset[channel_taps] - block.tap_offset[0]) / int64_t{sizeof(Floats<W>)} : 0;
  for (int ky = 0; ky < shape.kernel_height; ++ky)
    for (int y = 0; y < block.positions / shape.columns; ++y) {
      const int tap = first * channel_taps + ky * KW, position = y * shape.columns + x;
      input_gradient_row<W, KW, XT, CT>(block, w + tap, channel_taps, g + position, stride,
                                        &at_byte<W>(dx, block.position_offset[position] + block.tap_offset[tap]),
                                        channel_stride);
    }
}

template <int W, int KW>
void row_input_gradient(const ConvBlock& block, const RowShape& shape, const Floats<W>* w, const Floats<W>* g,
                        int stride, Floats<W>* dx) {
  constexpr int limit = KW == 3 ? 12 : 8;  // what small images need; more would only be more code
  const int tiles = parts(shape.columns, limit);
  for (int t = 0; t < tiles; ++t) {
    const Part tile = part(shape.columns, tiles, t);
    with_constant<limit>(tile.size, [&](auto size) ZOOSPARSE_LAMBDA {
      constexpr int XT = size.value, CT = row_channels<W>(XT + KW - 1);
      int c = 0;
      for (; c + CT <= shape.in_channels; c += CT)
        input_gradient_rows<W, KW, CT, XT>(block, shape, w, g, stride, dx, tile.first, c);
      if constexpr (CT > 1)
        for (; c < shape.in_channels; ++c)
          input_gradient_rows<W, KW, 1, XT>(block, shape, w, g, stride, dx, tile.first, c);
    });
  }
}

template <int W>
void input_gradient(const ConvBlock& block, const RowShape& shape, const Floats<W>* w, const Floats<W>* g, int stride,
                    Floats<W>* dx) {
  if (shape.stride_width == 1 && block.positions > 1) {
    switch (shape.kernel_width) {
      case 1:
        return row_input_gradient<W, 1>(block, shape, w, g, stride, dx);
      case 2:
        return row_input_gradient<W, 2>(block, shape, w, g, stride, dx);
      case 3:
        return row_input_gradient<W, 3>(block, shape, w, g, stride, dx);
      case 5:
        return row_input_gradient<W, 5>(block, shape, w, g, stride, dx);
      default:
        break;
    }
  }
  scatter_input_gradient<W>(block, w, g, stride, dx);
}

// Runs body(constant OT, first channel) over tiles of output channels.
template <class Body>
ZOOSPARSE_INLINE void for_channel_tiles(int channels, const Body& body) {
  const int tiles = parts(channels, kTileChannels);
  for (int t = 0; t < tiles; ++t) {
    const Part tile = part(channels, tiles, t);
    with_constant<kTileChannels>(tile.size, [&](auto size) ZOOSPARSE_LAMBDA { body(size, tile.first); });
  }
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
