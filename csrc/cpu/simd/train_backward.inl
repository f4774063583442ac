// Backward through the stages of a plan: one sample of W models, gradients of weights added up over the batch.
#pragma once

#include "cpu/simd/train_forward.inl"
#include "cpu/simd/train_windows.inl"

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
  const int out_plane = stage.rows / stage.pool_height * out_width;
  const int first = block.first / stage.pool_height * out_width;
  const F* of_variance = group.at(stage.deviation);
  if (!stage.pooled) return {gradient + first, of_variance + first, out_plane};
  const PoolBlock pool{block.rows, stage.columns, stage.pool_height, stage.pool_width};
  F* mean = group.at(plan.block_mean);
  F* variance = group.at(plan.block_variance);
  for (int o = 0; o < stage.op.out_channels; ++o) {
    const int64_t from = static_cast<int64_t>(o) * out_plane + first;
    const Ints<W>* winner = group.winners(stage) + from;
    unpool_block<W>(gradient + from, winner, pool, mean + o * positions);
    if (plan.variational) unpool_block<W>(of_variance + from, winner, pool, variance + o * positions);
  }
  return {mean, variance, positions};
}

// Where the outputs' deviations were, the gradients with respect to their variances.
template <int W>
void form_variance_gradient(const Group<W>& group, const TrainStage& stage, const Floats<W>* gradient) {
  Floats<W>* deviation = group.at(stage.deviation);
  for (int i = 0; group.plan.variational && i < stage.out_elements; ++i) deviation[i] *= gradient[i];
}

template <int W>
void bias_gradient(const Group<W>& group, const TrainStage& stage, const Floats<W>* gradient) {
  typedef Floats<W> F;
  const TrainOp& op = stage.op;
  if (op.bias < 0) return;
  const bool variational = group.plan.variational && group.params.variational_bias && op.kind == OpKind::conv2d;
  const int plane = stage.out_elements / op.out_channels;
  const F* of_variance = group.at(stage.deviation);
  for (int o = 0; o < op.out_channels; ++o) {
    F sum{}, variance_sum{};
    for (int i = o * plane; i < (o + 1) * plane; ++i) {
      sum += gradient[i];
      if (variational) variance_sum += of_variance[i];
    }
    group.weight_gradient[op.bias + o] += sum;
    if (variational) group.variance_gradient[op.bias + o] += variance_sum;
  }
}

inline bool has_window_gradient(const TrainStage& stage) {
  return stage.pooled && stage.pool_height == 2 && stage.pool_width == 2 && stage.op.stride_height == 1 &&
         stage.op.stride_width == 1 && has_window_gradient(stage.op.kernel_width);
}

inline WindowedConv windowed(const TrainStage& stage) {
  const TrainOp& op = stage.op;
  const int width = op.in_width + 2 * op.padding_width, height = op.in_height + 2 * op.padding_height;
  return {op.in_channels,    op.out_channels, op.kernel_height, op.kernel_width, stage.rows / 2,
          stage.columns / 2, width,           height * width};
}

template <int W>
void window_gradient(const Group<W>& group, const TrainStage& stage, const Floats<W>* gradient) {
  const WindowGradient<W> g{group.winners(stage), gradient, group.at(stage.deviation),
                            group.weight_gradient + stage.op.weight, group.variance_gradient + stage.op.weight};
  const Floats<W>* input = group.at(stage.padded_input);
  if (group.plan.variational) return window_gradient<W, true>(windowed(stage), g, input);
  window_gradient<W, false>(windowed(stage), g, input);
}

template <int W>
void block_weight_gradient(const Group<W>& group, const TrainStage& stage, const RowBlock& block,
                           const BlockGradient<W>& g) {
  const TrainOp& op = stage.op;
  for_channel_tiles(op.out_channels, [&](auto channels, int o) {
    constexpr int OT = channels.value;
    const int64_t tap = op.weight + o * stage.taps;
    weight_gradient_channels<W, OT>(block.conv, g.mean + o * g.stride, g.stride, group.at(stage.padded_input),
                                    group.weight_gradient + tap);
    if (group.plan.variational)
      weight_gradient_channels<W, OT>(block.conv, g.variance + o * g.stride, g.stride, group.at(stage.squared),
                                      group.variance_gradient + tap);
  });
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
  form_variance_gradient<W>(group, stage, gradient);
  bias_gradient<W>(group, stage, gradient);
  const bool by_windows = has_window_gradient(stage);
  if (by_windows) window_gradient<W>(group, stage, gradient);
  if (by_windows && !stage.needs_input_gradient) return;

  F* of_input = stage.padded ? group.at(plan.padded_gradient) : input_gradient_out;
  F* of_square = group.at(plan.squared_gradient);
  const F* weight = group.shared_at(plan.weights + op.weight);
  const F* variance_weight = group.shared_at(plan.variance + op.weight);
  if (stage.needs_input_gradient) {
    for (int i = 0; i < stage.padded_elements; ++i) of_input[i] = F{};
    for (int i = 0; plan.variational && i < stage.padded_elements; ++i) of_square[i] = F{};
  }
  if (by_windows) {
    const Ints<W>* winner = group.winners(stage);
    window_input_gradient<W>(windowed(stage), winner, gradient, weight, group.at(plan.block_mean), of_input);
    if (plan.variational)
      window_input_gradient<W>(windowed(stage), winner, group.at(stage.deviation), variance_weight,
                               group.at(plan.block_mean), of_square);
  } else {
    for_blocks(stage, [&](const RowBlock& block) {
      const BlockGradient<W> g = block_gradient<W>(group, stage, block, gradient);
      block_weight_gradient<W>(group, stage, block, g);
      if (!stage.needs_input_gradient) return;
      const RowShape shape{op.in_channels, op.kernel_height, op.kernel_width, op.stride_width, stage.columns};
      input_gradient<W>(block.conv, shape, weight, g.mean, g.stride, of_input);
      if (plan.variational) input_gradient<W>(block.conv, shape, variance_weight, g.variance, g.stride, of_square);
    });
  }
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
