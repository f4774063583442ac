// What happens once a step: the sum of the parts' gradients, the update, the variances of the new weights.
#pragma once

#include <algorithm>

#include "common/formulas.h"
#include "cpu/simd/train_group.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// A run of columns of one layer.
struct Columns {
  int64_t first, end;
  float clamp;
  bool variational, frozen;
};

// Those within `range`, layer by layer.
template <int W, class Body>
inline void for_columns(const Group<W>& group, Range range, const Body& body) {
  const auto run = [&](int64_t first, int64_t count, float clamp, bool variational, bool frozen) {
    const int64_t begin = std::max(first, range.first), end = std::min(first + count, range.first + range.count);
    if (begin < end) body(Columns{begin, end, clamp, variational, frozen});
  };
  for (int s = 0; s < group.plan.count; ++s) {
    const TrainStage& stage = group.plan.stages[s];
    const TrainOp& op = stage.op;
    const bool convolution = op.kind == OpKind::conv2d;
    if (!convolution && op.kind != OpKind::linear) continue;
    run(op.weight, op.out_channels * stage.taps, op.clamp, group.plan.variational, op.weight_frozen);
    if (op.bias >= 0)
      run(op.bias, op.out_channels, op.clamp, group.plan.variational && group.params.variational_bias && convolution,
          op.bias_frozen);
  }
}

// variance = exp(log alpha) w^2 of every variational weight.
template <int W>
void find_variances(const Group<W>& group, Range range) {
  const TrainPlan& plan = group.plan;
  for_columns(group, range, [&](const Columns& columns) {
    if (!columns.variational) return;
    for (int64_t p = columns.first; p < columns.end; ++p)
      group.shared_at(plan.variance)[p] = weight_variance<Lanes<W>>(group.shared_at(plan.weights)[p],
                                                                    group.shared_at(plan.log_sigma2)[p], columns.clamp);
  });
}

template <int W>
void clear_gradients(const Group<W>& group) {
  for (int64_t p = 0; p < group.params.parameters; ++p) group.weight_gradient[p] = Floats<W>{};
  for (int64_t p = 0; group.plan.variational && p < group.params.parameters; ++p)
    group.variance_gradient[p] = Floats<W>{};
}

template <int W, OptimizerKind kind>
void update_columns(const Group<W>& group, int parts, const Columns& columns, const StepRule<Lanes<W>>& rule) {
  typedef Floats<W> F;
  const TrainPlan& plan = group.plan;
  Ints<W> lane_bit;
  for (int l = 0; l < W; ++l) lane_bit[l] = 1 << l;
  const bool masked = group.params.masks != nullptr;
  F unused{};
  const bool has_first = group.params.moment1 != nullptr, has_second = group.params.moment2 != nullptr;
  for (int64_t p = columns.first; p < columns.end; ++p) {
    F w = group.shared_at(plan.weights)[p], gradient = group.weight_gradient_of(0)[p];
    for (int k = 1; k < parts; ++k) gradient += group.weight_gradient_of(k)[p];
    F first = has_first ? group.shared_at(plan.moment1)[p] : unused,
      second = has_second ? group.shared_at(plan.moment2)[p] : unused;
    if (columns.variational) {
      F log_sigma2 = group.shared_at(plan.log_sigma2)[p], of_variance = group.variance_gradient_of(0)[p];
      for (int k = 1; k < parts; ++k) of_variance += group.variance_gradient_of(k)[p];
      const VariationalGradient<Lanes<W>> extra = variational_gradient<Lanes<W>>(
          w, log_sigma2, of_variance, group.shared_at(plan.variance)[p], columns.clamp, group.params.kl_weight);
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
void update_weights(const Group<W>& group, int parts, Range range, int64_t local_step) {
  const double* row[W];
  for (int l = 0; l < W; ++l) row[l] = group.params.hyper + group.model[l] * kHyperColumns;
  const StepRule<Lanes<W>> rule =
      step_rules<W>(row, group.params.lr_factor[local_step], group.params.first_step + local_step + 1);
  with_optimizer(group.params.optimizer, [&](auto kind) {
    for_columns(group, range, [&](const Columns& columns) {
      if (!columns.frozen) update_columns<W, kind.value>(group, parts, columns, rule);
    });
  });
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
