// Scalar formulas, written once for numbers and for vectors of them.
#pragma once

namespace zoosparse {

// Sparse variational dropout: Molchanov, Ashukha, Vetrov, ICML 2017, eq. 14.
constexpr float kKl1 = 0.63576f, kKl2 = 1.8732f, kKl3 = 1.48695f;
constexpr float kVarianceEpsilon = 1e-15f;  // under the logarithm of |w| and under the root of the variance

// d KL / d log alpha of one weight, from s = sigmoid(k2 + k3 log alpha) and t = sigmoid(-log alpha).
template <class T>
static inline T kl_slope(T s, T t) {
  return s * (s - 1.0f) * (kKl1 * kKl3) - t * 0.5f;
}

}  // namespace zoosparse
