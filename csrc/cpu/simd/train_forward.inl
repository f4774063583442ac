// Forward through the stages of a plan, one sample of W models at a time, so that activations stay in L2.
#pragma once

#include "common/formulas.h"
#include "cpu/simd/train_group.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// Where in the training a sample is: what its random numbers depend on.
struct SampleAt {
  int64_t step;
  int position;  // in its batch
};

template <int W>
RandomStream<W> random_stream(const Group<W>& group, RandomPurpose purpose, int op, SampleAt at) {
  return {group.keys, static_cast<uint32_t>(at.step), stream_id(purpose, op), static_cast<uint32_t>(at.position)};
}

// Rows [first, first + rows) of a convolution's output.
struct RowBlock {
  int first, rows;
  ConvBlock conv;
};

template <class Body>
inline void for_blocks(const TrainStage& stage, const Body& body) {
  for (int first = 0; first < stage.rows; first += stage.block_rows) {
    const int rows = stage.rows - first < stage.block_rows ? stage.rows - first : stage.block_rows;
    body(RowBlock{first,
                  rows,
                  {stage.op.out_channels, stage.taps, rows * stage.columns, stage.tap_offset,
                   stage.position_offset + first * stage.columns}});
  }
}

// Adds noise of the given variance to the mean of channels [first, first + count); the variance becomes
// noise / (2 standard deviation), the derivative of the sum with respect to it.
template <int W>
void add_noise(const TrainStage& stage, const RandomStream<W>& random, const RowBlock& block, int first, int count,
               Floats<W>* mean, Floats<W>* variance, int stride) {
  const TrainOp& op = stage.op;
  const bool whole_rows = stage.columns == op.out_width;
  const int runs = whole_rows ? 1 : block.rows, length = whole_rows ? block.rows * stage.columns : stage.columns;
  for (int c = 0; c < count; ++c) {
    for (int run = 0; run < runs; ++run) {
      const int64_t element = (static_cast<int64_t>(first + c) * op.out_height + block.first + run) * op.out_width;
      Floats<W>* m = mean + c * stride + run * length;
      Floats<W>* v = variance + c * stride + run * length;
      random.for_elements(
          element, length, [](const Words<W>(&x)[4], Floats<W>(&value)[4]) { to_normal<W>(x, value); },
          [&](int64_t i, Floats<W> noise) {
            const Floats<W> deviation = square_root<W>(v[i] + kVarianceEpsilon);
            m[i] += deviation * noise;
            v[i] = 0.5f * noise / deviation;
          });
    }
  }
}

template <int W>
void convolution_forward(const Group<W>& group, const TrainStage& stage, SampleAt sample) {
  typedef Floats<W> F;
  const TrainPlan& plan = group.plan;
  const TrainOp& op = stage.op;
  const F* input = group.padded_input(stage);
  const F* weight = group.shared_at(plan.weights + op.weight);
  const F* bias = op.bias < 0 ? nullptr : group.shared_at(plan.weights + op.bias);
  const F* squared = group.at(stage.squared);
  const F* variance_weight = group.shared_at(plan.variance + op.weight);
  const F* variance_bias = nullptr;
  if (plan.variational) {
    for (int i = 0; i < stage.padded_elements; ++i) group.at(stage.squared)[i] = input[i] * input[i];
    if (bias != nullptr && group.params.variational_bias && op.kind == OpKind::conv2d)
      variance_bias = group.shared_at(plan.variance + op.bias);
  }
  const RandomStream<W> random = random_stream(group, kVariationalStream, stage.index, sample);
  const int plane = stage.rows * stage.columns, out_width = stage.columns / stage.pool_width;
  const int out_plane = stage.rows / stage.pool_height * out_width;

  for_blocks(stage, [&](const RowBlock& block) {
    const int stride = stage.pooled ? block.conv.positions : plane;
    for_channel_tiles(op.out_channels, [&](auto channels, int o) {
      constexpr int OT = channels.value;
      const int64_t start = static_cast<int64_t>(o) * plane + block.first * stage.columns;
      F* mean = stage.pooled ? group.at(plan.block_mean) : group.at(stage.output) + start;
      F* variance = stage.pooled ? group.at(plan.block_variance) : group.at(stage.deviation) + start;
      forward_channels<W, OT>(block.conv, weight + o * stage.taps, bias == nullptr ? nullptr : bias + o, input, mean,
                              stride);
      if (plan.variational) {
        forward_channels<W, OT>(block.conv, variance_weight + o * stage.taps,
                                variance_bias == nullptr ? nullptr : variance_bias + o, squared, variance, stride);
        add_noise<W>(stage, random, block, o, OT, mean, variance, stride);
      }
      if (!stage.pooled) return;
      for (int c = 0; c < OT; ++c) {
        const int64_t to = (o + c) * out_plane + block.first / stage.pool_height * out_width;
        const PoolBlock pool{block.rows, stage.columns, stage.pool_height, stage.pool_width};
        F* output = group.at(stage.output) + to;
        if (plan.variational)
          pool_block<W, true>(mean + c * stride, variance + c * stride, pool, output, group.winners(stage) + to,
                              group.at(stage.deviation) + to);
        else
          pool_block<W, false>(mean + c * stride, nullptr, pool, output, group.winners(stage) + to, nullptr);
      }
    });
  });
}

template <int W>
void dropout_forward(const Group<W>& group, const TrainStage& stage, SampleAt sample) {
  Floats<W> rate = broadcast<W>(stage.op.value);
  if (group.params.dropout != nullptr)
    for (int l = 0; l < W; ++l) rate[l] = group.params.dropout[group.model[l]];
  const Floats<W> scale = 1.0f / (1.0f - rate);
  const Floats<W>* input = group.at(stage.input);
  Floats<W>* output = group.at(stage.output);
  Floats<W>* factor = group.at(stage.saved);
  random_stream(group, kDropoutStream, stage.index, sample)
      .for_elements(
          0, stage.out_elements,
          [](const Words<W>(&x)[4], Floats<W>(&value)[4]) {
            for (int i = 0; i < 4; ++i) value[i] = to_unit<W>(x[i]);
          },
          [&](int64_t i, Floats<W> u) {
            factor[i] = u >= rate ? scale : Floats<W>{};
            output[i] = factor[i] != 0.0f ? input[i] * scale : Floats<W>{};
          });
}

template <int W>
void stage_forward(const Group<W>& group, const TrainStage& stage, SampleAt sample) {
  const Floats<W>* input = group.at(stage.input);
  Floats<W>* output = group.at(stage.output);
  switch (stage.op.kind) {
    case OpKind::conv2d:
    case OpKind::linear:
      return convolution_forward<W>(group, stage, sample);
    case OpKind::activation:
      return activate<W>(stage.op, input, output, group.saved_derivative(stage), stage.out_elements);
    case OpKind::dropout:
      return dropout_forward<W>(group, stage, sample);
    case OpKind::max_pool2d:
      return max_pool<W>(stage.op, input, output, group.winners(stage));
    default:
      return average_pool<W>(stage.op, input, output);
  }
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
