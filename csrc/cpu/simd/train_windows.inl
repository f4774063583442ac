// Gradients of a convolution with a 2 x 2 max pool behind it, from those of the pool's outputs.
//
// Of the four outputs in a window only the winner has a gradient, in each lane another one.
// - For the weights' gradients, the inputs that the winners saw are picked first, rows and then columns, and a window
//   costs one multiply-add for each tap, not four: with the two picks, 16 instructions for five taps where there were
//   20, and the picks need no multiplier.
// - For the inputs' gradients, weights are shifted to the winner's column, and a row of them goes to two rows of
// inputs,
//   in each lane to one of them with a gradient of zero: 18 instructions for five taps, of which 12 multiply.
#pragma once

#include "cpu/simd/train_conv.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// A convolution of stride 1 and its windows.
struct WindowedConv {
  int in_channels, out_channels, kernel_height, kernel_width;
  int rows, columns;             // windows
  int input_width, input_plane;  // of the padded input
};

template <int W>
ZOOSPARSE_INLINE Ints<W> is_odd(Ints<W> x) {
#if defined(__AVX512F__)
  if constexpr (W == 16)
    return bits_as<Ints<W>>(_mm512_movm_epi32(
        _mm512_test_epi32_mask(bits_as<__m512i>(x), _mm512_set1_epi32(1))));  // GCC would take two instructions
#endif
  return (x & 1) != 0;
}

// What a convolution's windows add to the gradients of its weights. In variational dropout the gradients of the
// outputs' variances, and those of the weights' variances, which the squares of the same inputs give.
template <int W>
struct WindowGradient {
  const Ints<W>* winner;  // place in the window, row by row: of this, mean and variance [out][rows][columns]
  const Floats<W>* mean;
  const Floats<W>* variance;
  Floats<W>* of_weight;  // [out][taps]
  Floats<W>* of_weight_variance;
};

// Sums of OT output channels and KR rows of KW taps.
template <int W, int OT, int KR, int KW>
struct TapSums {
  Floats<W> sum[OT][KR][KW];

  // Calls body(sum, its place in the gradients).
  template <class Body>
  ZOOSPARSE_INLINE void for_each(int taps, const Body& body) {
    for (int o = 0; o < OT; ++o)
      for (int r = 0; r < KR; ++r)
        for (int k = 0; k < KW; ++k) body(sum[o][r][k], o * taps + r * KW + k);
  }
};

// Sum over windows of gradient times the input below the winner; `x` is where the first tap meets the first input.
template <int W, int KW, int KR, int OT, bool variational>
void window_gradient_tile(const WindowedConv& conv, const WindowGradient<W>& g, const Floats<W>* x, int out, int tap) {
  const int taps = conv.in_channels * conv.kernel_height * KW, plane = conv.rows * conv.columns;
  Floats<W>* const of_weight = g.of_weight + out * taps + tap;
  Floats<W>* const of_variance = g.of_weight_variance + out * taps + tap;
  TapSums<W, OT, KR, KW> mean, variance;
  mean.for_each(taps, [&](Floats<W>& sum, int at) ZOOSPARSE_LAMBDA { sum = of_weight[at]; });
  if constexpr (variational)
    variance.for_each(taps, [&](Floats<W>& sum, int at) ZOOSPARSE_LAMBDA { sum = of_variance[at]; });
  int window = out * plane;
  for (int y = 0; y < conv.rows; ++y) {
    const Floats<W>* corner = x + 2 * y * conv.input_width;
    for (int c = 0; c < conv.columns; ++c, corner += 2, ++window) {
      Floats<W> input[KR + 1][KW + 1];
      for (int r = 0; r <= KR; ++r)
        for (int k = 0; k <= KW; ++k) input[r][k] = loaded<W>(corner[r * conv.input_width + k]);
      ZOOSPARSE_UNROLL
      for (int o = 0; o < OT; ++o) {
        const Floats<W> of_output = g.mean[window + o * plane];
        Floats<W> of_output_variance{};
        if constexpr (variational) of_output_variance = g.variance[window + o * plane];
        const Ints<W> winner = g.winner[window + o * plane], right = is_odd<W>(winner), down = winner > 1;
        ZOOSPARSE_UNROLL
        for (int r = 0; r < KR; ++r) {
          Floats<W> left = down ? input[r + 1][0] : input[r][0];
          ZOOSPARSE_UNROLL
          for (int k = 0; k < KW; ++k) {
            const Floats<W> next = down ? input[r + 1][k + 1] : input[r][k + 1], seen = right ? next : left;
            mean.sum[o][r][k] += of_output * seen;
            if constexpr (variational) variance.sum[o][r][k] += of_output_variance * (seen * seen);
            left = next;
          }
        }
      }
    }
  }
  mean.for_each(taps, [&](Floats<W>& sum, int at) ZOOSPARSE_LAMBDA { of_weight[at] = sum; });
  if constexpr (variational)
    variance.for_each(taps, [&](Floats<W>& sum, int at) ZOOSPARSE_LAMBDA { of_variance[at] = sum; });
}

template <int W, int KW, int rows, int channels, bool variational>
void window_gradient_tiles(const WindowedConv& conv, const WindowGradient<W>& g, const Floats<W>* x) {
  const int channel_tiles = parts(conv.out_channels, channels), row_tiles = parts(conv.kernel_height, rows);
  for (int t = 0; t < channel_tiles; ++t) {
    const Part out = part(conv.out_channels, channel_tiles, t);
    for (int c = 0; c < conv.in_channels; ++c)
      for (int r = 0; r < row_tiles; ++r) {
        const Part row = part(conv.kernel_height, row_tiles, r);
        with_constant<channels>(out.size, [&](auto out_size) ZOOSPARSE_LAMBDA {
          with_constant<rows>(row.size, [&](auto row_size) ZOOSPARSE_LAMBDA {
            window_gradient_tile<W, KW, row_size.value, out_size.value, variational>(
                conv, g, x + c * conv.input_plane + row.first * conv.input_width, out.first,
                (c * conv.kernel_height + row.first) * KW);
          });
        });
      }
  }
}

// The gradients of a row of windows by the row that the winner is in, and whether it is on the right; [out][columns].
template <int W>
struct WindowRow {
  const Floats<W>* top;
  const Floats<W>* bottom;
  const Ints<W>* right;
};

// What XT windows in a row give to the two rows of inputs that meet one row of KW taps of an input channel.
template <int W, int KW, int XT>
void window_input_tile(const WindowedConv& conv, WindowRow<W> row, const Floats<W>* w, Floats<W>* dx) {
  constexpr int reach = 2 * XT + KW - 1;
  const int taps = conv.in_channels * conv.kernel_height * KW, columns = conv.columns;
  Floats<W>* const below = dx + conv.input_width;
  Floats<W> upper[reach], lower[reach];
  ZOOSPARSE_UNROLL
  for (int i = 0; i < reach; ++i) upper[i] = dx[i], lower[i] = below[i];
  for (int o = 0; o < conv.out_channels; ++o, w += taps) {
    Floats<W> weight[KW];
    ZOOSPARSE_UNROLL
    for (int k = 0; k < KW; ++k) weight[k] = loaded<W>(w[k]);
    ZOOSPARSE_UNROLL
    for (int x = 0; x < XT; ++x) {
      const Ints<W> right = row.right[o * columns + x] != 0;
      const Floats<W> none{}, top = row.top[o * columns + x], bottom = row.bottom[o * columns + x];
      ZOOSPARSE_UNROLL
      for (int k = 0; k <= KW; ++k) {
        const Floats<W> shifted = right ? (k > 0 ? weight[k - 1] : none) : (k < KW ? weight[k] : none);
        upper[2 * x + k] += top * shifted;
        lower[2 * x + k] += bottom * shifted;
      }
    }
  }
  ZOOSPARSE_UNROLL
  for (int i = 0; i < reach; ++i) dx[i] = upper[i], below[i] = lower[i];
}

// How many windows of a row go together: their sums and a row of taps stay in registers.
template <int W>
constexpr int window_columns(int kernel_width) {
  const int sums = kTileRegisters<W> == 24 ? 20 : 12;  // 2 (2 windows + kernel width - 1)
  return (sums / 2 - (kernel_width - 1)) / 2;
}

// Adds to the gradients of the padded input. `room` is for three vectors for each output channel and column.
template <int W, int KW>
void window_input_tiles(const WindowedConv& conv, const Ints<W>* winner, const Floats<W>* gradient, const Floats<W>* w,
                        Floats<W>* room, Floats<W>* dx) {
  constexpr int limit = window_columns<W>(KW);
  const int tiles = parts(conv.columns, limit), size = conv.out_channels * conv.columns;
  Floats<W>*const top = room, *const bottom = top + size;
  auto* const right = reinterpret_cast<Ints<W>*>(bottom + size);
  for (int y = 0; y < conv.rows; ++y) {
    for (int o = 0, i = 0; o < conv.out_channels; ++o)
      for (int x = 0; x < conv.columns; ++x, ++i) {
        const int window = (o * conv.rows + y) * conv.columns + x;
        const Ints<W> down = winner[window] > 1;
        top[i] = down ? Floats<W>{} : gradient[window];
        bottom[i] = down ? gradient[window] : Floats<W>{};
        right[i] = winner[window] & 1;
      }
    for (int c = 0; c < conv.in_channels; ++c)
      for (int k = 0; k < conv.kernel_height; ++k)
        for (int t = 0; t < tiles; ++t) {
          const Part tile = part(conv.columns, tiles, t);
          Floats<W>* const to = dx + c * conv.input_plane + (2 * y + k) * conv.input_width + 2 * tile.first;
          with_constant<limit>(tile.size, [&](auto constant) ZOOSPARSE_LAMBDA {
            window_input_tile<W, KW, constant.value>(conv, {top + tile.first, bottom + tile.first, right + tile.first},
                                                     w + (c * conv.kernel_height + k) * KW, to);
          });
        }
  }
}

template <int W>
void window_input_gradient(const WindowedConv& conv, const Ints<W>* winner, const Floats<W>* gradient,
                           const Floats<W>* w, Floats<W>* room, Floats<W>* dx) {
  if (conv.kernel_width == 3) return window_input_tiles<W, 3>(conv, winner, gradient, w, room, dx);
  window_input_tiles<W, 5>(conv, winner, gradient, w, room, dx);
}

inline bool has_window_gradient(int kernel_width) { return kernel_width == 3 || kernel_width == 5; }

// Tiles whose sums stay in registers, with most of the inputs.
template <int W, bool variational>
void window_gradient(const WindowedConv& conv, const WindowGradient<W>& g, const Floats<W>* x) {
  constexpr int channels = kTileRegisters<W> == 24 && !variational ? 2 : 1, rows = variational ? 2 : 3;
  if (conv.kernel_width == 3) return window_gradient_tiles<W, 3, rows, 1, variational>(conv, g, x);
  window_gradient_tiles<W, 5, 1, channels, variational>(conv, g, x);
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
