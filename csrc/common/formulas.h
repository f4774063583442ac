// Formulas of training, written once: for a number on a GPU, for a vector with one model in each lane on a CPU.
//
// M says how to calculate: M::F is the number, M::B what a comparison gives, and functions exp, log, sqrt, tanh, erf,
// magnitude. A choice `b ? x : y` works lane by lane on vectors.
#pragma once

#include "common/host_device.h"
#include "common/params.h"

namespace zoosparse {

// ---- Activations ---------------------------------------------------------------------------------------------------

constexpr float kSqrtHalf = 0.70710678f, kInverseSqrtTau = 0.39894228f;  // 1/sqrt 2, 1/sqrt(2 pi)

template <class M>
ZOOSPARSE_FORMULA typename M::F logistic_of(typename M::F x) {
  return 1.0f / (1.0f + M::exp(-x));
}

// dy/dx from y, of activations for which derivative_from_output() holds.
template <ActivationKind kind, class M>
ZOOSPARSE_FORMULA typename M::F derivative_at(typename M::F y, float slope) {
  typedef typename M::F F;
  const F one = F{} + 1.0f;
  if constexpr (kind == ActivationKind::relu) return y > 0.0f ? one : F{};
  if constexpr (kind == ActivationKind::leaky_relu) return y > 0.0f ? one : one * slope;
  if constexpr (kind == ActivationKind::tanh) return one - y * y;
  if constexpr (kind == ActivationKind::sigmoid) return y * (one - y);
  return one;
}

// y = f(x) and dy/dx. A derivative that needs x is computed here and saved, so that y may overwrite x; those that
// always follow from y are 0 here.
template <class M>
struct Activated {
  typename M::F value, derivative;
};

template <ActivationKind kind, class M>
ZOOSPARSE_FORMULA Activated<M> activated(typename M::F x, float slope) {
  typedef typename M::F F;
  if constexpr (kind == ActivationKind::relu) return {F{} > x ? F{} : x, F{}};  // NaN stays NaN
  if constexpr (kind == ActivationKind::leaky_relu) return {x > 0.0f ? x : x * slope, derivative_at<kind, M>(x, slope)};
  if constexpr (kind == ActivationKind::tanh) return {M::tanh(x), F{}};
  if constexpr (kind == ActivationKind::sigmoid) return {logistic_of<M>(x), F{}};
  if constexpr (kind == ActivationKind::silu) {
    const F s = logistic_of<M>(x), y = x * s;
    return {y, s + y * (1.0f - s)};
  }
  if constexpr (kind == ActivationKind::gelu) {
    const F cdf = 0.5f * (1.0f + M::erf(x * kSqrtHalf));
    return {x * cdf, cdf + x * M::exp(x * x * -0.5f) * kInverseSqrtTau};
  }
  return {x, F{}};
}

// ---- Sparse variational dropout: Molchanov, Ashukha, Vetrov, ICML 2017, eq. 14 -------------------------------------

constexpr float kKl1 = 0.63576f, kKl2 = 1.8732f, kKl3 = 1.48695f;
constexpr float kVarianceEpsilon = 1e-15f;  // under the logarithm of |w| and under the root of the variance

// d KL / d log alpha of one weight, from s = sigmoid(k2 + k3 log alpha) and t = sigmoid(-log alpha).
template <class T>
ZOOSPARSE_FORMULA T kl_slope(T s, T t) {
  return s * (s - 1.0f) * (kKl1 * kKl3) - t * 0.5f;
}

// log alpha clamped to its bounds, and whether it was inside them.
template <class M>
struct LogAlpha {
  typename M::F value;
  typename M::B inside;
};

template <class M>
ZOOSPARSE_FORMULA LogAlpha<M> log_alpha(typename M::F w, typename M::F log_sigma2, float bound) {
  typedef typename M::F F;
  const F raw = log_sigma2 - 2.0f * M::log(M::magnitude(w) + kVarianceEpsilon);
  const F high = F{} + bound, above_low = raw < -high ? -high : raw;
  return {above_low > high ? high : above_low, static_cast<typename M::B>((raw >= -high) & (raw <= high))};
}

// The variance of one weight's product with 1.
template <class M>
ZOOSPARSE_FORMULA typename M::F weight_variance(typename M::F w, typename M::F log_sigma2, float bound) {
  return M::exp(log_alpha<M>(w, log_sigma2, bound).value) * w * w;
}

// Gradients with respect to w and log sigma^2 through variance = exp(log alpha) w^2 and through the KL divergence.
template <class M>
struct VariationalGradient {
  typename M::F of_weight, of_log_sigma2;
};

template <class M>
ZOOSPARSE_FORMULA VariationalGradient<M> variational_gradient(typename M::F w, typename M::F log_sigma2,
                                                              typename M::F of_variance, typename M::F variance,
                                                              float bound, float kl_weight) {
  typedef typename M::F F;
  const LogAlpha<M> alpha = log_alpha<M>(w, log_sigma2, bound);
  const F s = logistic_of<M>(alpha.value * kKl3 + kKl2), t = logistic_of<M>(-alpha.value);
  const F inverse = 1.0f / (M::magnitude(w) + kVarianceEpsilon), one = F{} + 1.0f;
  const F below = w < 0.0f ? -one : F{}, sign = w > 0.0f ? one : below;
  // Inside the bounds the variance is sigma^2 (|w| / (|w| + 1e-15))^2: what w adds through w^2 it takes away through
  // alpha, to one part in |w| / 1e-15. Left out, rather than subtracted with its rounding errors.
  const F of_kl = kl_weight * kl_slope(s, t);  // with respect to log alpha
  const F outside = of_variance * 2.0f * M::exp(alpha.value) * w;
  return {alpha.inside ? -2.0f * of_kl * sign * inverse : outside, alpha.inside ? of_variance * variance + of_kl : F{}};
}

// ---- Update rules of torch.optim -----------------------------------------------------------------------------------

// Hyperparameters for one step, corrections included.
template <class M>
struct StepRule {
  typename M::F lr, weight_decay, beta1, beta2, eps;
  typename M::B nesterov, momentum;  // whether they are in use
  typename M::F one_less_beta1, one_less_beta2;
  typename M::F step_size, root_correction2;  // lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
  typename M::F decoupled;                    // 1 - lr * weight decay
};

// One parameter's step from its gradient g.
template <OptimizerKind kind, class M>
ZOOSPARSE_FORMULA void update(const StepRule<M>& rule, typename M::F& w, typename M::F g, typename M::F& first,
                              typename M::F& second) {
  typedef typename M::F F;
  if constexpr (kind == OptimizerKind::adamw)
    w *= rule.decoupled;
  else
    g += rule.weight_decay * w;
  if constexpr (kind == OptimizerKind::sgd) {
    const F buffer = first * rule.beta1 + g;
    first = rule.momentum ? buffer : first;
    w -= rule.lr * (rule.nesterov ? g + rule.beta1 * buffer : buffer);
  } else if constexpr (kind == OptimizerKind::rmsprop) {
    second = second * rule.beta2 + g * g * rule.one_less_beta2;
    w -= rule.lr * g / (M::sqrt(second) + rule.eps);
  } else {
    first += (g - first) * rule.one_less_beta1;
    second = second * rule.beta2 + g * g * rule.one_less_beta2;
    w -= rule.step_size * first / (M::sqrt(second) * rule.root_correction2 + rule.eps);
  }
}

}  // namespace zoosparse
