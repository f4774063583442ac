// Backward through the stages of a plan: one sample of W models, gradients of weights added up over the batch.
#pragma once

#include "cpu/simd/train_forward.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// The gradient of a block's outputs, and in variational dropout that of their variances; [out][stride].
template <int W>
struct BlockGradient {
  const Floats<W>* mean;
  const Floats<W>* variance;
  int stride;
};

template <int W>
BlockGradient<W> block_gradient(const Group<W>& group, const TrainStage& stage, const RowBlock& block,
                                const Floats<W>* gradient) {
  typedef Floats<W> F;
  const TrainPlan& plan = group.plan;
  const int positions = block.conv.positions, out_width = stage.columns / stage.pool_width;
  const int out_plane = stage.rows / stage.pool_height * out_width,
            outs = positions / stage.pool_height / stage.pool_width;
  const PoolBlock pool{block.rows, stage.columns, stage.pool_height, stage.pool_width};
  F* mean = group.at(plan.block_mean);
  F* variance = group.at(plan.block_variance);
  for (int o = 0; o < stage.op.out_channels; ++o) {
    const int64_t from = static_cast<int64_t>(o) * out_plane + block.first / stage.pool_height * out_width;
    const Ints<W>* winner = group.winners(stage) + from;
    const F* deviation = group.at(stage.deviation) + from;
    if (stage.pooled) unpool_block<W>(gradient + from, winner, pool, mean + o * positions);
    if (!plan.variational) continue;
    F* product = stage.pooled ? group.at(plan.noise_gradient) : variance + o * positions;
    for (int i = 0; i < outs; ++i) product[i] = gradient[from + i] * deviation[i];
    if (stage.pooled) unpool_block<W>(product, winner, pool, variance + o * positions);
  }
  if (!stage.pooled) return {gradient + block.first * stage.columns, variance, out_plane};
  return {mean, variance, positions};
}

template <int W>
void bias_gradient(const Group<W>& group, const TrainStage& stage, const Floats<W>* gradient) {
  typedef Floats<W> F;
  const TrainPlan& plan = group.plan;
  const TrainOp& op = stage.op;
  if (op.bias < 0) return;
  const bool variational = plan.variational && group.params.variational_bias && op.kind == OpKind::conv2d;
  const int plane = stage.out_elements / op.out_channels;
  const F* deviation = group.at(stage.deviation);
  for (int o = 0; o < op.out_channels; ++o) {
    F sum{}, of_variance{};
    for (int i = o * plane; i < (o + 1) * plane; ++i) {
      sum += gradient[i];
      if (variational) of_variance += gradient[i] * deviation[i];
    }
    group.weight_gradient[op.bias + o] += sum;
    if (variational) group.variance_gradient[op.bias + o] += of_variance;
  }
}

// The gradient with respect to the input, from those with respect to the padded input and its square.
template <int W>
void finish_input_gradient(const Group<W>& group, const TrainStage& stage, Floats<W>* padded, Floats<W>* result) {
  if (group.plan.variational) {
    const Floats<W>* of_square = group.at(group.plan.squared_gradient);
    const Floats<W>* input = group.at(stage.padded_input);
    for (int i = 0; i < stage.padded_elements; ++i) padded[i] += 2.0f * input[i] * of_square[i];
  }
  if (stage.padded) group.for_interior(stage.op, [&](int inner, int from) { result[inner] = padded[from]; });
}

template <int W>
void convolution_backward(const Group<W>& group, const TrainStage& stage, const Floats<W>* gradient,
                          Floats<W>* input_gradient_out) {
  typedef Floats<W> F;
  const TrainPlan& plan = group.plan;
  const TrainOp& op = stage.op;
  const F* input = group.at(stage.padded_input);
  const F* squared = group.at(stage.squared);
  F* of_input = stage.padded ? group.at(plan.padded_gradient) : input_gradient_out;
  F* of_square = group.at(plan.squared_gradient);
  F* of_weight = group.weight_gradient + op.weight;
  F* of_variance = group.variance_gradient + op.weight;
  bias_gradient<W>(group, stage, gradient);
  if (stage.needs_input_gradient) {
    for (int i = 0; i < stage.padded_elements; ++i) of_input[i] = F{};
    for (int i = 0; plan.variational && i < stage.padded_elements; ++i) of_square[i] = F{};
  }
  for_blocks(stage, [&](const RowBlock& block) {
    const BlockGradient<W> g = block_gradient<W>(group, stage, block, gradient);
    for_channel_tiles(op.out_channels, [&](auto channels, int o) {
      constexpr int OT = channels.value;
      weight_gradient_channels<W, OT>(block.conv, g.mean + o * g.stride, g.stride, input, of_weight + o * stage.taps);
      if (plan.variational)
        weight_gradient_channels<W, OT>(block.conv, g.variance + o * block.conv.positions, block.conv.positions,
                                        squared, of_variance + o * stage.taps);
    });
    if (!stage.needs_input_gradient) return;
    const RowShape shape{op.in_channels, op.kernel_height, op.kernel_width, op.stride_width, stage.columns};
    input_gradient<W>(block.conv, shape, group.shared_at(plan.weights + op.weight), g.mean, g.stride, of_input);
    if (plan.variational)
      input_gradient<W>(block.conv, shape, group.shared_at(plan.variance + op.weight), g.variance, block.conv.positions,
                        of_square);
  });
  if (stage.needs_input_gradient) finish_input_gradient<W>(group, stage, of_input, input_gradient_out);
}

// From the gradient of the logits in plan.gradient[0] to those of all weights.
template <int W>
void backward(const Group<W>& group) {
  const TrainPlan& plan = group.plan;
  Floats<W>* gradient = group.at(plan.gradient[0]);
  Floats<W>* next = group.at(plan.gradient[1]);
  for (int s = plan.count - 1; s >= 0; --s) {
    const TrainStage& stage = plan.stages[s];
    const OpKind kind = stage.op.kind;
    const bool convolution = kind == OpKind::conv2d || kind == OpKind::linear;
    if (!stage.needs_input_gradient && !convolution) return;  // nothing before has weights
    if (kind == OpKind::activation) {
      activation_gradient<W>(stage.op, group.at(stage.output), group.saved_derivative(stage), gradient,
                             stage.out_elements);
      continue;
    }
    if (kind == OpKind::dropout) {
      const Floats<W>* factor = group.at(stage.saved);
      for (int i = 0; i < stage.out_elements; ++i) gradient[i] *= factor[i];
      continue;
    }
    if (convolution)
      convolution_backward<W>(group, stage, gradient, next);
    else if (kind == OpKind::max_pool2d)
      max_pool_gradient<W>(stage.op, gradient, group.winners(stage), next);
    else
      average_pool_gradient<W>(stage.op, gradient, next);
    if (!stage.needs_input_gradient) return;
    Floats<W>* const done = gradient;
    gradient = next;
    next = done;
  }
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
