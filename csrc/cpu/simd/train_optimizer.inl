// The hyperparameters of W models for one step.
#pragma once

#include "common/scalar.h"
#include "cpu/simd/math.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// `row[lane]`: a model's row of the table of hyperparameters; step counts from 1.
template <int W>
inline StepRule<Lanes<W>> step_rules(const double* const (&row)[W], double factor, int64_t step) {
  StepRule<Lanes<W>> rules{};
  for (int l = 0; l < W; ++l) {
    const StepRule<Scalar> rule = step_rule(row[l], factor, step);
    rules.lr[l] = rule.lr;
    rules.weight_decay[l] = rule.weight_decay;
    rules.beta1[l] = rule.beta1;
    rules.beta2[l] = rule.beta2;
    rules.eps[l] = rule.eps;
    rules.nesterov[l] = rule.nesterov ? -1 : 0;
    rules.momentum[l] = rule.momentum ? -1 : 0;
    rules.one_less_beta1[l] = rule.one_less_beta1;
    rules.one_less_beta2[l] = rule.one_less_beta2;
    rules.step_size[l] = rule.step_size;
    rules.root_correction2[l] = rule.root_correction2;
    rules.decoupled[l] = rule.decoupled;
  }
  return rules;
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
