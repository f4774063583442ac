// Convolutions and linear layers of one model on some samples. A linear layer is a convolution of 1 x 1 images.
#pragma once

#include "train_block.h"

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
