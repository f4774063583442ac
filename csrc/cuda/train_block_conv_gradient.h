// Gradients of the convolutions and linear layers of train_block_conv.h: of their weights, and of their inputs.
#pragma once

#include "cuda/train_block_conv.h"

namespace zoosparse {

// ---- Gradients of the weights ---------------------------------------------------------------------------------------

struct TapAt {
  int32_t offset;  // in the input
  int32_t y, x;    // in the window
};

ZOOSPARSE_HOST_DEVICE static inline TapAt tap_at(const BlockStage& stage, int tap) {
  const TrainOp& op = stage.op;
  const int window = op.kernel_height * op.kernel_width, y = tap % window / op.kernel_width, x = tap % op.kernel_width;
  return {(tap / window * op.in_height + y) * op.in_width + x, y, x};
}

// What a thread adds up: some taps of one channel, and the bias, whose input is 1.
struct TapSums {
  float taps[kGradientTaps], bias;
};

// Adds up taps [first, first + kGradientTaps) of channel o over outputs [from, to), counted over all samples. Where
// there are fewer, the first stands for those that are not there.
template <bool padded, bool variational, class Team>
ZOOSPARSE_HOST_DEVICE static inline void sum_taps(const Block<Team>& block, const BlockStage& stage, int gradient,
                                                  int o, int first, int from, int to, TapSums& sum, TapSums& spread) {
  const TrainOp& op = stage.op;
  const int plane = stage.out_elements / op.out_channels, width = stage.pooled ? stage.columns / 2 : stage.columns;
  TapAt tap[kGradientTaps];
  ZOOSPARSE_UNROLL
  for (int t = 0; t < kGradientTaps; ++t) tap[t] = tap_at(stage, first + t < stage.taps ? first + t : first);
  const int pool = stage.pooled ? 2 : 1, down = op.stride_height * op.in_width, right = op.stride_width;
  int number = from / plane, at = from % plane, y = at / width, x = at % width;
  for (int i = from; i < to; ++i) {
    const float* const sample = block.sample(number);
    const int element = o * plane + at;
    const float of_mean = sample[gradient + element];
    const float of_variance = variational ? of_mean * sample[stage.deviation + element] : 0.0f;
    const unsigned which = stage.pooled ? winners_of(stage, sample)[element] : 0;
    const int wy = pool * y + static_cast<int>(which >> 1), wx = pool * x + static_cast<int>(which & 1);
    const int top = wy * op.stride_height - op.padding_height, left = wx * right - op.padding_width;
    const float* const seen = sample + stage.input + (wy * down - op.padding_height * op.in_width + left);
    sum.bias += of_mean;
    if constexpr (variational) spread.bias += of_variance;
    ZOOSPARSE_UNROLL
    for (int t = 0; t < kGradientTaps; ++t) {
      const bool inside = !padded || is_inside(op, top + tap[t].y, left + tap[t].x);
      const float value = inside ? seen[tap[t].offset] : 0.0f;
      sum.taps[t] += of_mean * value;
      if constexpr (variational) spread.taps[t] += of_variance * (value * value);
    }
    if (++x == width) x = 0, ++y;
    if (++at == plane) at = x = y = 0, ++number;
  }
}

// How the gradients of a layer are shared out: every channel's taps in tiles, the bias with the first of them, the
// outputs that they are summed over in parts, so that all threads have work.
struct GradientShares {
  int all;    // taps and bias
  int tiles;  // of a channel's taps
  int jobs;   // tiles of all channels
  int parts;
  int outputs;  // of a channel, in all samples

  // The first output of a part.
  ZOOSPARSE_HOST_DEVICE int first_of(int part) const { return static_cast<int>(int64_t{outputs} * part / parts); }
};

ZOOSPARSE_HOST_DEVICE static inline GradientShares gradient_shares(const BlockStage& stage, int samples, int threads) {
  const TrainOp& op = stage.op;
  GradientShares shares;
  shares.all = stage.taps + (op.bias >= 0 ? 1 : 0);
  shares.tiles = (stage.taps + kGradientTaps - 1) / kGradientTaps;
  shares.jobs = op.out_channels * shares.tiles;
  shares.outputs = samples * (stage.out_elements / op.out_channels);
  const int most = threads / shares.jobs < shares.outputs ? threads / shares.jobs : shares.outputs;
  shares.parts = most < 1 ? 1 : most;
  return shares;
}

ZOOSPARSE_HOST_DEVICE static inline int64_t column_of_tap(const BlockStage& stage, int o, int tap) {
  return tap < stage.taps ? stage.op.weight + int64_t{o} * stage.taps + tap : stage.op.bias + o;
}

// Sums of every part, or straight to the gradients where there is but one.
template <bool padded, bool variational, class Team>
ZOOSPARSE_HOST_DEVICE static inline void weight_gradient_parts(const Block<Team>& block, const BlockStage& stage,
                                                               const GradientShares& shares, int gradient) {
  const int size = stage.op.out_channels * shares.all;
  block.team.each(shares.jobs * shares.parts, [&](int task) {
    const int tile = task % shares.tiles, o = task / shares.tiles % stage.op.out_channels, part = task / shares.jobs;
    TapSums sum{}, spread{};
    sum_taps<padded, variational>(block, stage, gradient, o, tile * kGradientTaps, shares.first_of(part),
                                  shares.first_of(part + 1), sum, spread);
    const auto put = [&](int tap, float of_weight, float of_variance) {
      if (shares.parts > 1) {
        float* const to = block.memory.partial + part * size + o * shares.all + tap;
        to[0] = of_weight;
        if constexpr (variational) to[shares.parts * size] = of_variance;
        return;
      }
      const int64_t column = column_of_tap(stage, o, tap);
      block.memory.weight_gradient[column] += of_weight;
      if constexpr (variational) block.memory.variance_gradient[column] += of_variance;
    };
    ZOOSPARSE_UNROLL
    for (int t = 0; t < kGradientTaps; ++t)
      if (const int tap = tile * kGradientTaps + t; tap < stage.taps) put(tap, sum.taps[t], spread.taps[t]);
    if (tile == 0 && stage.taps < shares.all) put(stage.taps, sum.bias, spread.bias);
  });
}

// Adds the parts, always in the same order.
template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void add_parts(const Block<Team>& block, const BlockStage& stage,
                                                   const GradientShares& shares) {
  if (shares.parts == 1) return;
  const int size = stage.op.out_channels * shares.all, matrices = block.plan.variational ? 2 : 1;
  block.team.each(size * matrices, [&](int i) {
    const int matrix = i / size, place = i % size;
    const float* const from = block.memory.partial + matrix * shares.parts * size + place;
    float sum = 0.0f;
    for (int part = 0; part < shares.parts; ++part) sum += from[part * size];
    const int64_t column = column_of_tap(stage, place / shares.all, place % shares.all);
    (matrix == 0 ? block.memory.weight_gradient : block.memory.variance_gradient)[column] += sum;
  });
}

// ---- Gradients of the input -----------------------------------------------------------------------------------------

// The outputs along one axis, at most `count`, whose windows hold the input at `place`, counted from the border's
// beginning; none: last < first, and halves of them likewise.
struct OutputRange {
  int first, last;
};

ZOOSPARSE_HOST_DEVICE static inline OutputRange outputs_over(int place, int kernel, int stride, int count) {
  const int first = place < kernel ? 0 : (place - kernel + stride) / stride, last = place / stride;
  return {first, last < count ? last : count - 1};
}

// The sum over all outputs that have seen an input, of kTileChannels input channels from `first` on.
template <bool variational, class Team>
ZOOSPARSE_HOST_DEVICE static inline void input_gradient_tile(const Block<Team>& block, const BlockStage& stage,
                                                             int gradient, int next, int first, int number, int y,
                                                             int x) {
  const TrainOp& op = stage.op;
  float* const sample = block.sample(number);
  const uint8_t* const winners = winners_of(stage, sample);
  const int window = op.kernel_height * op.kernel_width, plane = stage.out_elements / op.out_channels;
  float sum[kTileChannels] = {}, spread[kTileChannels] = {};
  int32_t channel[kTileChannels];
  ZOOSPARSE_UNROLL
  for (int c = 0; c < kTileChannels; ++c) channel[c] = (first + c < op.in_channels ? first + c : first) * window;
  const float* const weights = block.memory.weights + op.weight;
  const float* const variances = block.memory.variance + (variational ? op.weight : 0);
  // What output `element`, whose weights begin at `row`, says to the input it saw through a tap.
  const auto add = [&](int element, int row, int tap) {
    const float of_mean = sample[gradient + element];
    const float* const weight = weights + row + tap;
    ZOOSPARSE_UNROLL
    for (int c = 0; c < kTileChannels; ++c) sum[c] += of_mean * weight[channel[c]];
    if constexpr (variational) {
      const float of_variance = of_mean * sample[stage.deviation + element];
      const float* const variance = variances + row + tap;
      ZOOSPARSE_UNROLL
      for (int c = 0; c < kTileChannels; ++c) spread[c] += of_variance * variance[channel[c]];
    }
  };
  const int top = y + op.padding_height, left = x + op.padding_width;
  const OutputRange rows = outputs_over(top, op.kernel_height, op.stride_height, stage.rows);
  const OutputRange columns = outputs_over(left, op.kernel_width, op.stride_width, stage.columns);
  if (stage.pooled) {
    const int width = stage.columns / 2;
    for (int row = rows.first / 2; row <= rows.last / 2; ++row)
      for (int column = columns.first / 2; column <= columns.last / 2; ++column) {
        const int above = top - 2 * row * op.stride_height, before = left - 2 * column * op.stride_width;
        int element = row * width + column;
        for (int o = 0; o < op.out_channels; ++o, element += plane) {
          const unsigned which = winners[element];
          const int i = which >> 1 ? above - op.stride_height : above,
                    j = which & 1 ? before - op.stride_width : before;
          if (is_below(i, op.kernel_height) && is_below(j, op.kernel_width))
            add(element, o * stage.taps, i * op.kernel_width + j);
        }
      }
  } else {
    for (int row = rows.first; row <= rows.last; ++row)
      for (int column = columns.first; column <= columns.last; ++column) {
        const int i = top - row * op.stride_height, j = left - column * op.stride_width;
        int element = row * stage.columns + column;
        for (int o = 0; o < op.out_channels; ++o, element += plane)
          add(element, o * stage.taps, i * op.kernel_width + j);
      }
  }
  ZOOSPARSE_UNROLL
  for (int c = 0; c < kTileChannels; ++c) {
    if (first + c >= op.in_channels) continue;
    const int to = ((first + c) * op.in_height + y) * op.in_width + x;
    if constexpr (variational) sum[c] += 2.0f * sample[stage.input + to] * spread[c];
    sample[next + to] = sum[c];
  }
}

template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void input_gradient(const Block<Team>& block, const BlockStage& stage, int samples,
                                                        int gradient, int next) {
  const TrainOp& op = stage.op;
  const int plane = op.in_height * op.in_width, tiles = (op.in_channels + kTileChannels - 1) / kTileChannels;
  const int places = samples * plane;
  with_bool(block.plan.variational, [&](auto variational) {
    block.team.each(tiles * places, [&](int task) {
      const int tile = task / places, place = task % places, at = place % plane;
      input_gradient_tile<decltype(variational)::value>(block, stage, gradient, next, tile * kTileChannels,
                                                        place / plane, at / op.in_width, at % op.in_width);
    });
  });
}

// From the gradient of the outputs, at place `gradient` of every sample, to those of weights and, at `next`, of inputs.
template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void convolution_backward(const Block<Team>& block, const BlockStage& stage,
                                                              int samples, int gradient, int next) {
  const TrainOp& op = stage.op;
  const GradientShares shares = gradient_shares(stage, samples, block.team.threads());
  with_bool(op.padding_height > 0 || op.padding_width > 0, [&](auto padded) {
    with_bool(block.plan.variational, [&](auto variational) {
      weight_gradient_parts<decltype(padded)::value, decltype(variational)::value>(block, stage, shares, gradient);
    });
  });
  if (stage.needs_input_gradient) input_gradient(block, stage, samples, gradient, next);
  block.team.barrier();
  add_parts(block, stage, shares);
}

}  // namespace zoosparse
