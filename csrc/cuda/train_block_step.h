// A whole training of one model by one block: batches in parts, forward, backward, and the update once a step.
#pragma once

#include "cuda/train_block_conv_gradient.h"
#include "cuda/train_block_layers.h"

namespace zoosparse {

// ---- The update -----------------------------------------------------------------------------------------------------

// Calls body(column, bound of log alpha, whether it is variational, whether it is frozen) for every column of the
// layers.
template <class Team, class Body>
ZOOSPARSE_HOST_DEVICE static inline void each_column(const Block<Team>& block, const Body& body) {
  for (int s = 0; s < block.plan.count; ++s) {
    const BlockStage stage = block.plan.stages[s];
    const TrainOp& op = stage.op;
    if (op.kind != OpKind::conv2d && op.kind != OpKind::linear) continue;
    block.team.each(op.out_channels * stage.taps,
                    [&](int i) { body(op.weight + i, op.clamp, block.plan.variational, op.weight_frozen); });
    if (op.bias >= 0)
      block.team.each(op.out_channels,
                      [&](int i) { body(op.bias + i, op.clamp, block.has_variational_bias(op), op.bias_frozen); });
  }
}

template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void begin_column(const Block<Team>& block, int64_t column, float bound,
                                                      bool variational) {
  block.memory.weight_gradient[column] = 0.0f;
  if (!variational) return;
  block.memory.variance_gradient[column] = 0.0f;
  block.memory.variance[column] = weight_variance<Scalar>(
      block.memory.weights[column], block.params.log_sigma2[block.place_in_matrix(column)], bound);
}

ZOOSPARSE_HOST_DEVICE static inline bool is_kept(const TrainParams& params, int64_t model, int64_t column) {
  if (params.masks == nullptr) return true;
  const int64_t bytes = (params.parameters + 7) / 8;
  return (params.masks[model * bytes + column / 8] >> (column % 8) & 1) != 0;
}

template <OptimizerKind kind, class Team>
ZOOSPARSE_HOST_DEVICE static inline void update_column(const Block<Team>& block, int64_t column, float bound,
                                                       bool variational) {
  const TrainParams& params = block.params;
  const StepRule<Scalar> rule = block.memory.state->rule;
  const int64_t at = block.place_in_matrix(column);
  const bool has_first = params.moment1 != nullptr, has_second = params.moment2 != nullptr;
  float w = block.memory.weights[column], gradient = block.memory.weight_gradient[column];
  float first = has_first ? params.moment1[at] : 0.0f, second = has_second ? params.moment2[at] : 0.0f;
  if (variational) {
    float log_sigma2 = params.log_sigma2[at];
    const VariationalGradient<Scalar> extra = variational_gradient<Scalar>(
        w, log_sigma2, block.memory.variance_gradient[column], block.memory.variance[column], bound, params.kl_weight);
    gradient += extra.of_weight;
    update<kind, Scalar>(rule, log_sigma2, extra.of_log_sigma2, params.sigma_moment1[at], params.sigma_moment2[at]);
    params.log_sigma2[at] = log_sigma2;
  }
  update<kind, Scalar>(rule, w, gradient, first, second);
  if (!is_kept(params, block.model, column)) w = first = second = 0.0f;
  block.memory.weights[column] = w;
  if (has_first) params.moment1[at] = first;
  if (has_second) params.moment2[at] = second;
  begin_column(block, column, bound, variational);
}

// Moves every column by its gradient, and makes it ready for the next step.
template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void end_step(const Block<Team>& block, int64_t local_step) {
  const TrainParams& params = block.params;
  block.team.each(1, [&](int) {
    block.memory.state->rule = step_rule(params.hyper + block.model * kHyperColumns, params.lr_factor[local_step],
                                         params.first_step + local_step + 1);
  });
  block.team.barrier();
  with_optimizer(params.optimizer, [&](auto kind) {
    each_column(block, [&](int64_t column, float bound, bool variational, bool frozen) {
      if (frozen)
        begin_column(block, column, bound, variational);
      else
        update_column<decltype(kind)::value>(block, column, bound, variational);
    });
  });
  block.team.barrier();
}

// ---- Samples --------------------------------------------------------------------------------------------------------

template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void stage_forward(const Block<Team>& block, const BlockStage& stage,
                                                       const SampleRun& run) {
  switch (stage.op.kind) {
    case OpKind::conv2d:
    case OpKind::linear:
      return convolution_forward(block, stage, run);
    case OpKind::activation:
      return activation_forward(block, stage, run);
    case OpKind::dropout:
      return dropout_forward(block, stage, run);
    default:
      return pool_forward(block, stage, run);
  }
}

// From the gradient of the scores to those of all weights.
template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void backward(const Block<Team>& block, int samples) {
  const BlockPlan& plan = block.plan;
  int now = 0;
  for (int s = plan.count - 1; s >= 0; --s) {
    const BlockStage stage = plan.stages[s];  // a copy: what is written cannot change it
    const OpKind kind = stage.op.kind;
    const bool convolution = kind == OpKind::conv2d || kind == OpKind::linear;
    if (!stage.needs_input_gradient && !convolution) return;  // nothing before has weights
    const int gradient = plan.gradient[now], next = plan.gradient[1 - now];
    if (kind == OpKind::activation)
      activation_backward(block, stage, samples, gradient);
    else if (kind == OpKind::dropout)
      dropout_backward(block, stage, samples, gradient);
    else if (convolution)
      convolution_backward(block, stage, samples, gradient, next);
    else
      pool_backward(block, stage, samples, gradient, next);
    block.team.barrier();
    if (!stage.needs_input_gradient) return;
    if (kind != OpKind::activation && kind != OpKind::dropout) now = 1 - now;
  }
}

template <class Team>
ZOOSPARSE_FORMULA void train_samples(const Block<Team>& block, const SampleRun& run) {
  load_images(block, run);
  block.team.barrier();
  for (int s = 0; s < block.plan.count; ++s) {
    const BlockStage stage = block.plan.stages[s];
    stage_forward(block, stage, run);
    block.team.barrier();
  }
  judge_samples(block, run);
  block.team.barrier();
  backward(block, run.count);
}

// ---- A training -----------------------------------------------------------------------------------------------------

// All steps of one model, `at_once` samples at a time.
template <class Team>
ZOOSPARSE_FORMULA void train_block(const Block<Team>& block, int at_once) {
  const TrainParams& params = block.params;
  float* const row = params.weights + block.place_in_matrix(0);
  block.team.each(1, [&](int) {
    block.memory.state->loss = 0.0;
    block.memory.state->correct = 0;
  });
  if (block.memory.weights != row)
    block.team.each(static_cast<int>(params.parameters), [&](int p) { block.memory.weights[p] = row[p]; });
  block.team.barrier();
  each_column(block, [&](int64_t column, float bound, bool variational, bool) {
    begin_column(block, column, bound, variational);
  });
  block.team.barrier();
  int64_t step = 0;
  for (int64_t start = 0; start < params.samples; start += params.batch_size, ++step) {
    const int64_t left = params.samples - start, batch = left < params.batch_size ? left : params.batch_size;
    for (int64_t first = 0; first < batch; first += at_once) {
      const int64_t rest = batch - first, count = rest < at_once ? rest : at_once;
      train_samples(block, {params.first_step + step, start + first, static_cast<int>(first), static_cast<int>(count),
                            1.0f / static_cast<float>(batch)});
    }
    end_step(block, step);
  }
  if (block.memory.weights != row)
    block.team.each(static_cast<int>(params.parameters), [&](int p) { row[p] = block.memory.weights[p]; });
  block.team.each(1, [&](int) {
    params.loss_sum[block.model] = block.memory.state->loss;
    params.correct[block.model] = block.memory.state->correct;
  });
  block.team.barrier();  // the next model of this block may use its memory
}

}  // namespace zoosparse
