// What happens once a step: variances of the weights before it, gradients to updates after it.
#pragma once

#include "cpu/simd/train_group.inl"
#include "formulas.h"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// A run of columns of one layer.
struct Columns {
  int64_t first;
  int count;
  float clamp;
  bool variational;
};

template <int W, class Body>
inline void for_columns(const Group<W>& group, const Body& body) {
  for (int s = 0; s < group.plan.count; ++s) {
    const TrainStage& stage = group.plan.stages[s];
    const TrainOp& op = stage.op;
    const bool convolution = op.kind == OpKind::conv2d;
    if (!convolution && op.kind != OpKind::linear) continue;
    body(Columns{op.weight, op.out_channels * stage.taps, op.clamp, group.plan.variational});
    if (op.bias >= 0)
      body(Columns{op.bias, op.out_channels, op.clamp,
                   group.plan.variational && group.params.variational_bias && convolution});
  }
}

// variance = exp(log alpha) w^2 of every variational weight.
template <int W>
void begin_step(const Group<W>& group) {
  const TrainPlan& plan = group.plan;
  for_columns(group, [&](const Columns& columns) {
    if (!columns.variational) return;
    for (int64_t p = columns.first; p < columns.first + columns.count; ++p) {
      const Floats<W> w = group.shared_at(plan.weights)[p];
      group.shared_at(plan.variance)[p] =
          weight_variance<Lanes<W>>(w, group.shared_at(plan.log_sigma2)[p], columns.clamp);
    }
  });
}

template <int W>
void clear_gradients(const Group<W>& group) {
  for (int64_t p = 0; p < group.params.parameters; ++p) group.weight_gradient[p] = Floats<W>{};
  for (int64_t p = 0; group.plan.variational && p < group.params.parameters; ++p)
    group.variance_gradient[p] = Floats<W>{};
}

// Adds a part's gradients to the sum of the parts before it.
template <int W>
void add_gradients(const Group<W>& group) {
  const TrainPlan& plan = group.plan;
  Floats<W>* weight_sum = group.shared_at(plan.weight_gradient_sum);
  Floats<W>* variance_sum = group.shared_at(plan.variance_gradient_sum);
  for (int64_t p = 0; p < group.params.parameters; ++p) weight_sum[p] += group.weight_gradient[p];
  for (int64_t p = 0; plan.variational && p < group.params.parameters; ++p)
    variance_sum[p] += group.variance_gradient[p];
}

template <int W, OptimizerKind kind>
void update_columns(const Group<W>& group, const Columns& columns, const StepRule<Lanes<W>>& rule) {
  typedef Floats<W> F;
  const TrainPlan& plan = group.plan;
  Ints<W> lane_bit;
  for (int l = 0; l < W; ++l) lane_bit[l] = 1 << l;
  const bool masked = group.params.masks != nullptr;
  F unused{};
  const bool has_first = group.params.moment1 != nullptr, has_second = group.params.moment2 != nullptr;
  for (int64_t p = columns.first; p < columns.first + columns.count; ++p) {
    F w = group.shared_at(plan.weights)[p], gradient = group.shared_at(plan.weight_gradient_sum)[p];
    F first = has_first ? group.shared_at(plan.moment1)[p] : unused,
      second = has_second ? group.shared_at(plan.moment2)[p] : unused;
    if (columns.variational) {
      F log_sigma2 = group.shared_at(plan.log_sigma2)[p];
      const VariationalGradient<Lanes<W>> extra =
          variational_gradient<Lanes<W>>(w, log_sigma2, group.shared_at(plan.variance_gradient_sum)[p],
                                         group.shared_at(plan.variance)[p], columns.clamp, group.params.kl_weight);
      gradient += extra.of_weight;
      update<kind, Lanes<W>>(rule, log_sigma2, extra.of_log_sigma2, group.shared_at(plan.sigma_moment1)[p],
                             group.shared_at(plan.sigma_moment2)[p]);
      group.shared_at(plan.log_sigma2)[p] = log_sigma2;
    }
    update<kind, Lanes<W>>(rule, w, gradient, first, second);
    if (masked) {
      const Ints<W> keep = (lane_bit & static_cast<int32_t>(group.kept()[p])) != 0;
      w = keep ? w : F{};
      first = keep ? first : F{};
      second = keep ? second : F{};
    }
    group.shared_at(plan.weights)[p] = w;
    if (has_first) group.shared_at(plan.moment1)[p] = first;
    if (has_second) group.shared_at(plan.moment2)[p] = second;
  }
}

template <int W>
void end_step(const Group<W>& group, int64_t local_step) {
  const double* row[W];
  for (int l = 0; l < W; ++l) row[l] = group.params.hyper + group.model[l] * kHyperColumns;
  const StepRule<Lanes<W>> rule =
      step_rules<W>(row, group.params.lr_factor[local_step], group.params.first_step + local_step + 1);
  with_optimizer(group.params.optimizer, [&](auto kind) {
    for_columns(group, [&](const Columns& columns) { update_columns<W, kind.value>(group, columns, rule); });
  });
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
