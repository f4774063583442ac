// Element-wise functions on vectors of float: relative errors are those tested in csrc/tests/train_math_test.cpp.
// Coefficients are minimax fits made for this file (relative error, Lawson's iteration in extended precision).
#pragma once

#include "cpu/simd/vector.h"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

#define ZOOSPARSE_INLINE inline __attribute__((always_inline))
#define ZOOSPARSE_LAMBDA __attribute__((always_inline))  // after a lambda's parameters

template <int W>
using Floats = Vector<float, W>;
template <int W>
using Ints = Vector<int32_t, W>;
template <int W>
using Words = Vector<uint32_t, W>;

// The difference to zero is the number itself, whatever it is, so compilers emit a broadcast alone; a sum is not (-0).
template <int W>
inline Floats<W> broadcast(float value) {
  return value - Floats<W>{};
}

template <class To, class From>
inline To bits_as(From value) {
  return __builtin_bit_cast(To, value);
}

// NaN stays NaN: both pick x where the comparison fails. Compilers do not always see that this is one instruction.
template <class V>
inline V max_of(V bound, V x) {
#if defined(__x86_64__)
  if constexpr (sizeof(V) == 16) return _mm_max_ps(bound, x);
#if defined(__AVX__)
  if constexpr (sizeof(V) == 32) return _mm256_max_ps(bound, x);
#endif
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) return _mm512_maskz_max_ps(0xffff, bound, x);
#endif
#endif
  return bound > x ? bound : x;
}

template <class V>
inline V min_of(V bound, V x) {
#if defined(__x86_64__)
  if constexpr (sizeof(V) == 16) return _mm_min_ps(bound, x);
#if defined(__AVX__)
  if constexpr (sizeof(V) == 32) return _mm256_min_ps(bound, x);
#endif
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) return _mm512_maskz_min_ps(0xffff, bound, x);
#endif
#endif
  return bound < x ? bound : x;
}

// All ones where either is NaN: one instruction, where a != a | b != b would be two comparisons.
template <int W>
inline Ints<W> unordered(Floats<W> a, Floats<W> b) {
#if defined(__x86_64__)
  if constexpr (W == 4) return bits_as<Ints<W>>(_mm_cmpunord_ps(a, b));
#if defined(__AVX__)
  if constexpr (W == 8) return bits_as<Ints<W>>(_mm256_cmp_ps(a, b, _CMP_UNORD_Q));
#endif
#if defined(__AVX512F__)
  if constexpr (W == 16) return bits_as<Ints<W>>(_mm512_movm_epi32(_mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q)));
#endif
#endif
  return (a != a) | (b != b);
}

template <int W>
inline Floats<W> clamp(Floats<W> x, float low, float high) {
  return min_of<Floats<W>>(broadcast<W>(high), max_of<Floats<W>>(broadcast<W>(low), x));
}

// The same, loaded once: GCC would rather load it again for each of its uses, as the operand of a multiply-add, but a
// core loads hardly more than one vector for every two multiply-adds.
template <int W>
ZOOSPARSE_INLINE Floats<W> loaded(Floats<W> x) {
#if defined(__AVX512F__)
  if constexpr (W == 16) asm("" : "+v"(x));
#endif
  return x;
}

template <int W>
inline Floats<W> magnitude(Floats<W> x) {
  return bits_as<Floats<W>>(bits_as<Ints<W>>(x) & 0x7fffffff);
}

// The two halves of a vector wider than a register, for what has no portable spelling.
template <class T, int W>
union Halves {
  Vector<T, W> whole;
  Vector<T, W / 2> half[2];
};

template <int W>
inline Floats<W> square_root(Floats<W> x) {
#if defined(__x86_64__)
  if constexpr (W == 4) return _mm_sqrt_ps(x);
#if defined(__AVX__)
  if constexpr (W == 8) return _mm256_sqrt_ps(x);
#endif
#if defined(__AVX512F__)
  if constexpr (W == 16) return _mm512_maskz_sqrt_ps(0xffff, x);  // the plain one warns of its undefined source
#endif
#endif
  if constexpr (W > 4) {
    Halves<float, W> h{x};
    h.half[0] = square_root<W / 2>(h.half[0]);
    h.half[1] = square_root<W / 2>(h.half[1]);
    return h.whole;
  }
  for (int i = 0; i < W; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

// The nearest integer of |x| < 2^22, as a float and as an int.
template <int W>
struct Rounded {
  Floats<W> value;
  Ints<W> number;
};

template <int W>
inline Rounded<W> nearest(Floats<W> x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: the sum's last bit counts ones
  const Floats<W> shifted = x + kShift;
  return {shifted - kShift, bits_as<Ints<W>>(shifted) - 0x4b400000};
}

// exp; below -87.3 the smallest normal number, above 88.3 a number near the largest one.
template <int W>
inline Floats<W> exponential(Floats<W> x) {
  x = clamp<W>(x, -87.33f, 88.37f);
  const Rounded<W> n = nearest<W>(x * 1.44269504f);
  Floats<W> r = x - n.value * 0.693359375f;  // ln 2 in two parts, the first exact in nine bits
  r = r + n.value * 2.12194440e-4f;
  Floats<W> p = r * 1.9841270e-4f + 1.3888889e-3f;
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.0f;
  return p * bits_as<Floats<W>>((n.number + 127) << 23);
}

// log of positive normal numbers.
template <int W>
inline Floats<W> logarithm(Floats<W> x) {
  // x = 2^n * m with m in [sqrt(1/2), sqrt(2)), then log m = 2 atanh((m - 1) / (m + 1)).
  const Ints<W> exponent = (bits_as<Ints<W>>(x) - 0x3f3504f3) >> 23;
  const Floats<W> m = bits_as<Floats<W>>(bits_as<Ints<W>>(x) - (exponent << 23));
  const Floats<W> n = __builtin_convertvector(exponent, Floats<W>);
  const Floats<W> f = m - 1.0f;
  const Floats<W> s = f / (m + 1.0f);
  const Floats<W> z = s * s;
  Floats<W> p = z * 0.2424f + 0.28571429f;
  p = p * z + 0.4f;
  p = p * z + 0.66666667f;
  // log m = f - s (f - z p): the leading term f is exact.
  return n * 0.693359375f + (f - (s * (f - z * p) + n * 2.12194440e-4f));
}

template <int W>
struct SineCosine {
  Floats<W> sine, cosine;
};

// sin and cos of 2 pi u for u in [0, 1].
template <int W>
inline SineCosine<W> turn(Floats<W> u) {
  const Rounded<W> quarter = nearest<W>(u * 4.0f);
  const Floats<W> t = u * 4.0f - quarter.value;  // exact, in quarter turns, |t| <= 1/2
  const Floats<W> z = t * t;
  // Taylor series of sin(pi t / 2) and cos(pi t / 2); the first terms dropped are below 3e-9.
  Floats<W> s = z * 1.6044118e-4f - 4.6817541e-3f;
  s = s * z + 7.9692626e-2f;
  s = s * z - 6.4596410e-1f;
  s = (s * z + 1.57079633f) * t;
  Floats<W> c = z * -2.5202042e-5f + 9.1926027e-4f;
  c = c * z - 2.0863481e-2f;
  c = c * z + 2.5366951e-1f;
  c = c * z - 1.23370055f;
  c = c * z + 1.0f;
  const Ints<W> swap = (quarter.number & 1) != 0;
  const Floats<W> sine = swap ? c : s, cosine = swap ? s : c;
  const Ints<W> sine_sign = (quarter.number & 2) << 30, cosine_sign = ((quarter.number + 1) & 2) << 30;
  return {bits_as<Floats<W>>(bits_as<Ints<W>>(sine) ^ sine_sign),
          bits_as<Floats<W>>(bits_as<Ints<W>>(cosine) ^ cosine_sign)};
}

// tanh as x P(x^2) / Q(x^2) up to 9.1, where it is 1 in float; the fit's own error is 2.3e-8. Beyond, P / Q stays what
// it is there, so that the product is more than 1.
template <int W>
inline Floats<W> hyperbolic_tangent(Floats<W> x) {
  const Floats<W> z = min_of<Floats<W>>(broadcast<W>(9.1f * 9.1f), x * x);
  Floats<W> p = z * 1.317617903e-8f + 2.0480208311e-5f;
  p = p * z + 3.4877522053e-3f;
  p = p * z + 1.3374426237e-1f;
  p = p * z + 1.0f;
  Floats<W> q = z * 7.7034921643e-7f + 3.2728232976e-4f;
  q = q * z + 2.5847166318e-2f;
  q = q * z + 4.6707740087e-1f;
  q = q * z + 1.0f;
  return clamp<W>(x * p / q, -1.0f, 1.0f);
}

// erf in the same way, up to 3.95; the fit's own error is 2.1e-8.
template <int W>
inline Floats<W> error_function(Floats<W> x) {
  const Floats<W> z = min_of<Floats<W>>(broadcast<W>(3.95f * 3.95f), x * x);
  Floats<W> p = z * 2.0258585702e-6f + 2.8466676129e-4f;
  p = p * z + 3.8076681196e-3f;
  p = p * z + 5.2873890671e-2f;
  p = p * z + 1.9154023803e-1f;
  p = p * z + 1.1283791439f;
  Floats<W> q = z * 3.7830184371e-5f + 1.1705876098e-3f;
  q = q * z + 1.5054109073e-2f;
  q = q * z + 1.1455525851e-1f;
  q = q * z + 5.0308079485e-1f;
  q = q * z + 1.0f;
  return clamp<W>(x * p / q, -1.0f, 1.0f);
}

template <int W>
inline Floats<W> logistic(Floats<W> x) {
  return 1.0f / (1.0f + exponential<W>(-x));
}

// How formulas.h calculates with vectors.
template <int W>
struct Lanes {
  typedef Floats<W> F;
  typedef Ints<W> B;
  static inline F exp(F x) { return exponential<W>(x); }
  static inline F log(F x) { return logarithm<W>(x); }
  static inline F sqrt(F x) { return square_root<W>(x); }
  static inline F tanh(F x) { return hyperbolic_tangent<W>(x); }
  static inline F erf(F x) { return error_function<W>(x); }
  static inline F magnitude(F x) { return ::zoosparse::ZOOSPARSE_ISA::magnitude<W>(x); }
};

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
