// How formulas.h calculates with single numbers, on the host and on a device; random numbers one at a time.
#pragma once

#include "common/formulas.h"
#include "common/philox.h"

namespace zoosparse {

// float, with the functions of CUDA's library on a device (at most 2 ulp) and of the C library on the host.
struct Scalar {
  typedef float F;
  typedef bool B;

#if defined(__CUDA_ARCH__)
  __device__ static float exp(float x) { return ::expf(x); }
  __device__ static float log(float x) { return ::logf(x); }
  __device__ static float sqrt(float x) { return ::sqrtf(x); }
  __device__ static float tanh(float x) { return ::tanhf(x); }
  __device__ static float erf(float x) { return ::erff(x); }
  __device__ static float magnitude(float x) { return ::fabsf(x); }
  __device__ static double power(double x, double exponent) { return ::pow(x, exponent); }
  __device__ static double root(double x) { return ::sqrt(x); }
#else
  ZOOSPARSE_HOST_DEVICE static float exp(float x) { return __builtin_expf(x); }
  ZOOSPARSE_HOST_DEVICE static float log(float x) { return __builtin_logf(x); }
  ZOOSPARSE_HOST_DEVICE static float sqrt(float x) { return __builtin_sqrtf(x); }
  ZOOSPARSE_HOST_DEVICE static float tanh(float x) { return __builtin_tanhf(x); }
  ZOOSPARSE_HOST_DEVICE static float erf(float x) { return __builtin_erff(x); }
  ZOOSPARSE_HOST_DEVICE static float magnitude(float x) { return __builtin_fabsf(x); }
  ZOOSPARSE_HOST_DEVICE static double power(double x, double exponent) { return __builtin_pow(x, exponent); }
  ZOOSPARSE_HOST_DEVICE static double root(double x) { return __builtin_sqrt(x); }
#endif
};

// y = f(x) and dy/dx of an activation that is known at run time; see activated().
ZOOSPARSE_HOST_DEVICE static inline Activated<Scalar> activated_as(ActivationKind kind, float slope, float x) {
  switch (kind) {
    case ActivationKind::relu:
      return activated<ActivationKind::relu, Scalar>(x, slope);
    case ActivationKind::leaky_relu:
      return activated<ActivationKind::leaky_relu, Scalar>(x, slope);
    case ActivationKind::tanh:
      return activated<ActivationKind::tanh, Scalar>(x, slope);
    case ActivationKind::sigmoid:
      return activated<ActivationKind::sigmoid, Scalar>(x, slope);
    case ActivationKind::silu:
      return activated<ActivationKind::silu, Scalar>(x, slope);
    case ActivationKind::gelu:
      return activated<ActivationKind::gelu, Scalar>(x, slope);
    default:
      return activated<ActivationKind::identity, Scalar>(x, slope);
  }
}

// dy/dx from y, see derivative_at().
ZOOSPARSE_HOST_DEVICE static inline float derivative_as(ActivationKind kind, float slope, float y) {
  switch (kind) {
    case ActivationKind::relu:
      return derivative_at<ActivationKind::relu, Scalar>(y, slope);
    case ActivationKind::leaky_relu:
      return derivative_at<ActivationKind::leaky_relu, Scalar>(y, slope);
    case ActivationKind::tanh:
      return derivative_at<ActivationKind::tanh, Scalar>(y, slope);
    case ActivationKind::sigmoid:
      return derivative_at<ActivationKind::sigmoid, Scalar>(y, slope);
    default:
      return 1.0f;
  }
}

// Calls body(constant optimizer kind).
template <OptimizerKind k>
struct OptimizerConstant {
  static constexpr OptimizerKind value = k;
};
template <class Body>
ZOOSPARSE_HOST_DEVICE static inline void with_optimizer(OptimizerKind kind, const Body& body) {
  switch (kind) {
    case OptimizerKind::sgd:
      return body(OptimizerConstant<OptimizerKind::sgd>{});
    case OptimizerKind::adam:
      return body(OptimizerConstant<OptimizerKind::adam>{});
    case OptimizerKind::adamw:
      return body(OptimizerConstant<OptimizerKind::adamw>{});
    case OptimizerKind::rmsprop:
      return body(OptimizerConstant<OptimizerKind::rmsprop>{});
  }
}

// `row`: a model's row of the table of hyperparameters; step counts from 1. In double, as Python has them.
ZOOSPARSE_FORMULA StepRule<Scalar> step_rule(const double* row, double factor, int64_t step) {
  const double lr = row[kLr] * factor, beta1 = row[kBeta1], beta2 = row[kBeta2], t = static_cast<double>(step);
  StepRule<Scalar> rule;
  rule.lr = static_cast<float>(lr);
  rule.weight_decay = static_cast<float>(row[kWeightDecay]);
  rule.beta1 = static_cast<float>(beta1);
  rule.beta2 = static_cast<float>(beta2);
  rule.eps = static_cast<float>(row[kEps]);
  rule.nesterov = row[kNesterov] > 0;
  rule.momentum = beta1 != 0;
  rule.one_less_beta1 = static_cast<float>(1 - beta1);
  rule.one_less_beta2 = static_cast<float>(1 - beta2);
  rule.step_size = static_cast<float>(lr / (1 - Scalar::power(beta1, t)));
  rule.root_correction2 = static_cast<float>(1 / Scalar::root(1 - Scalar::power(beta2, t)));
  rule.decoupled = static_cast<float>(1 - lr * row[kWeightDecay]);
  return rule;
}

// 24 random bits, centred: in (0, 1].
ZOOSPARSE_FORMULA float unit_of(uint32_t word) {
  return (static_cast<float>(static_cast<int32_t>(word >> 8)) + 0.5f) * 0x1p-24f;
}

// sin or cos of 2 pi u.
ZOOSPARSE_FORMULA float sine_of_turn(float u) {
#if defined(__CUDA_ARCH__)
  return ::sinpif(2.0f * u);
#else
  return static_cast<float>(__builtin_sin(6.283185307179586 * static_cast<double>(u)));
#endif
}
ZOOSPARSE_FORMULA float cosine_of_turn(float u) {
#if defined(__CUDA_ARCH__)
  return ::cospif(2.0f * u);
#else
  return static_cast<float>(__builtin_cos(6.283185307179586 * static_cast<double>(u)));
#endif
}

// A stream of one model, step and sample: element e is word e % 4 of counter (e / 4, step, stream, sample). The words
// of the last counter are kept, since neighbouring elements are often asked for one after the other.
struct ScalarStream {
  uint32_t key0, key1, step, stream, sample;
  uint32_t block = ~0u;  // no counter: elements number fewer than 2^24
  uint32_t x[4] = {};

  ZOOSPARSE_HOST_DEVICE void seek(uint32_t element) {
    if (element / 4 == block) return;
    block = element / 4;
    x[0] = block, x[1] = step, x[2] = stream, x[3] = sample;
    philox4x32(x, key0, key1);
  }

  ZOOSPARSE_HOST_DEVICE uint32_t word(uint32_t element) {
    seek(element);
    // Not x[element % 4]: registers have no addresses.
    const uint32_t first = element & 1 ? x[1] : x[0], second = element & 1 ? x[3] : x[2];
    return element & 2 ? second : first;
  }

  ZOOSPARSE_HOST_DEVICE float uniform(uint32_t element) { return unit_of(word(element)); }

  // Box and Muller on neighbouring pairs.
  ZOOSPARSE_HOST_DEVICE float normal(uint32_t element) {
    const float radius = Scalar::sqrt(Scalar::log(uniform(element & ~1u)) * -2.0f), u = uniform(element | 1u);
    return radius * (element & 1 ? sine_of_turn(u) : cosine_of_turn(u));
  }
};

}  // namespace zoosparse
