// Activations of one number, as CUDA kernels compute them; vectors of the CPU have their own
// (cpu/simd/train_layers.inl).
#pragma once

#include <math.h>

#include "host_device.h"
#include "params.h"

namespace zoosparse {

ZOOSPARSE_HOST_DEVICE static inline float logistic(float x) { return 1.0f / (1.0f + expf(-x)); }

// NaN stays NaN. `slope`: of a leaky ReLU.
ZOOSPARSE_HOST_DEVICE static inline float activate(ActivationKind kind, float slope, float x) {
  switch (kind) {
    case ActivationKind::relu:
      return x < 0.0f ? 0.0f : x;
    case ActivationKind::leaky_relu:
      return x > 0.0f ? x : x * slope;
    case ActivationKind::tanh:
      return tanhf(x);
    case ActivationKind::sigmoid:
      return logistic(x);
    case ActivationKind::silu:
      return x * logistic(x);
    case ActivationKind::gelu:
      return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    default:
      return x;
  }
}

}  // namespace zoosparse
