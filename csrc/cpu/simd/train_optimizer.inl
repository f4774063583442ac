// One step of torch.optim's update rules on one parameter of W models.
#pragma once

#include "cpu/simd/math.inl"
#include "params.h"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// Hyperparameters of the lanes' models for one step, corrections included.
template <int W>
struct StepRule {
  Floats<W> lr, weight_decay, beta1, beta2, eps;
  Ints<W> nesterov, momentum;  // -1 where in use
  Floats<W> one_less_beta1, one_less_beta2;
  Floats<W> step_size, root_correction2;  // lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
  Floats<W> decoupled;                    // 1 - lr * weight decay
};

// `row[lane]`: a model's row of the table of hyperparameters; step counts from 1. In double, as Python has them.
template <int W>
inline StepRule<W> step_rule(const double* const (&row)[W], double factor, int64_t step) {
  StepRule<W> rule{};
  for (int l = 0; l < W; ++l) {
    const double lr = row[l][kLr] * factor, beta1 = row[l][kBeta1], beta2 = row[l][kBeta2];
    rule.lr[l] = static_cast<float>(lr);
    rule.weight_decay[l] = static_cast<float>(row[l][kWeightDecay]);
    rule.beta1[l] = static_cast<float>(beta1);
    rule.beta2[l] = static_cast<float>(beta2);
    rule.eps[l] = static_cast<float>(row[l][kEps]);
    rule.nesterov[l] = row[l][kNesterov] > 0 ? -1 : 0;
    rule.momentum[l] = beta1 != 0 ? -1 : 0;
    rule.one_less_beta1[l] = static_cast<float>(1 - beta1);
    rule.one_less_beta2[l] = static_cast<float>(1 - beta2);
    const double t = static_cast<double>(step);
    rule.step_size[l] = static_cast<float>(lr / (1 - __builtin_pow(beta1, t)));
    rule.root_correction2[l] = static_cast<float>(1 / __builtin_sqrt(1 - __builtin_pow(beta2, t)));
    rule.decoupled[l] = static_cast<float>(1 - lr * row[l][kWeightDecay]);
  }
  return rule;
}

template <int W, OptimizerKind kind>
ZOOSPARSE_INLINE void update(const StepRule<W>& rule, Floats<W>& w, Floats<W> g, Floats<W>& first, Floats<W>& second) {
  if constexpr (kind == OptimizerKind::adamw)
    w *= rule.decoupled;
  else
    g += rule.weight_decay * w;
  if constexpr (kind == OptimizerKind::sgd) {
    const Floats<W> buffer = first * rule.beta1 + g;
    first = rule.momentum ? buffer : first;
    w -= rule.lr * (rule.nesterov ? g + rule.beta1 * buffer : buffer);
  } else if constexpr (kind == OptimizerKind::rmsprop) {
    second = second * rule.beta2 + g * g * rule.one_less_beta2;
    w -= rule.lr * g / (square_root<W>(second) + rule.eps);
  } else {
    first += (g - first) * rule.one_less_beta1;
    second = second * rule.beta2 + g * g * rule.one_less_beta2;
    w -= rule.step_size * first / (square_root<W>(second) * rule.root_correction2 + rule.eps);
  }
}

// Calls body(constant optimizer kind).
template <OptimizerKind k>
struct KindConstant {
  static constexpr OptimizerKind value = k;
};
template <class Body>
inline void with_optimizer(OptimizerKind kind, const Body& body) {
  switch (kind) {
    case OptimizerKind::sgd:
      return body(KindConstant<OptimizerKind::sgd>{});
    case OptimizerKind::adam:
      return body(KindConstant<OptimizerKind::adam>{});
    case OptimizerKind::adamw:
      return body(KindConstant<OptimizerKind::adamw>{});
    case OptimizerKind::rmsprop:
      return body(KindConstant<OptimizerKind::rmsprop>{});
  }
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
