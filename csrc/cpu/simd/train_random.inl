// Random numbers with models in the lanes: each lane has its own key, all share the counter.
#pragma once

#include "cpu/simd/math.inl"
#include "philox.h"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// Widening product of 32-bit lanes. Even and odd lanes are multiplied apart, which is what the instruction does.
template <int W>
inline WideProduct<Words<W>> wide_product(Words<W> a, uint32_t factor) {
  typedef Vector<uint64_t, W / 2> Wide;
  const Wide even = bits_as<Wide>(a), odd = even >> 32;
  const Wide b = Wide{} + factor;
  Wide low, high;
#if defined(__AVX512F__)
  if constexpr (W == 16) {
    low = bits_as<Wide>(_mm512_maskz_mul_epu32(0xff, bits_as<__m512i>(even), bits_as<__m512i>(b)));
    high = bits_as<Wide>(_mm512_maskz_mul_epu32(0xff, bits_as<__m512i>(odd), bits_as<__m512i>(b)));
  } else
#endif
#if defined(__AVX2__)
      if constexpr (W == 8) {
    low = bits_as<Wide>(_mm256_mul_epu32(bits_as<__m256i>(even), bits_as<__m256i>(b)));
    high = bits_as<Wide>(_mm256_mul_epu32(bits_as<__m256i>(odd), bits_as<__m256i>(b)));
  } else
#endif
  {
    low = (even & 0xffffffffu) * b;
    high = odd * b;
  }
  const Wide top = (low >> 32) | (high & 0xffffffff00000000u), bottom = (low & 0xffffffffu) | (high << 32);
  return {bits_as<Words<W>>(top), bits_as<Words<W>>(bottom)};
}

// A stream of one step and sample: element e is word e % 4 of counter (e / 4, step, stream, sample).
template <int W>
struct RandomStream {
  Words<W> key0, key1;
  uint32_t step, stream, sample;

  void words(uint32_t block, Words<W> (&x)[4]) const {
    x[0] = Words<W>{} + block;
    x[1] = Words<W>{} + step;
    x[2] = Words<W>{} + stream;
    x[3] = Words<W>{} + sample;
    philox4x32(x, key0, key1, [](Words<W> a, uint32_t b) ZOOSPARSE_LAMBDA { return wide_product<W>(a, b); });
  }

  // Calls body(element, value) for elements [first, first + count), with four values of `make` per block of words.
  template <class Make, class Body>
  inline void for_elements(int64_t first, int64_t count, const Make& make, const Body& body) const {
    for (int64_t block = first / 4; block * 4 < first + count; ++block) {
      Words<W> x[4];
      words(static_cast<uint32_t>(block), x);
      Floats<W> value[4];
      make(x, value);
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t element = block * 4 + i;
        if (element >= first && element < first + count) body(element - first, value[i]);
      }
    }
  }
};

// 24 random bits, centred: in (0, 1].
template <int W>
inline Floats<W> to_unit(Words<W> word) {
  return (__builtin_convertvector(bits_as<Ints<W>>(word >> 8), Floats<W>) + 0.5f) * 0x1p-24f;
}

// Box and Muller on neighbouring pairs.
template <int W>
inline void to_normal(const Words<W> (&x)[4], Floats<W> (&normal)[4]) {
  for (int i = 0; i < 4; i += 2) {
    const Floats<W> radius = square_root<W>(logarithm<W>(to_unit<W>(x[i])) * -2.0f);
    const SineCosine<W> direction = turn<W>(to_unit<W>(x[i + 1]));
    normal[i] = radius * direction.cosine;
    normal[i + 1] = radius * direction.sine;
  }
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
