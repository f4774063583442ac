// Random numbers with models in the lanes: each lane has its own key, all share the counter.
#pragma once

#include "common/philox.h"
#include "cpu/simd/math.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// Half of the lanes, the even or the odd ones: 32-bit words in the low halves of 64-bit lanes, as the widening
// multiplication wants them. The high halves hold anything.
template <int W>
using HalfWords = Vector<uint64_t, W / 2>;

template <int W>
ZOOSPARSE_INLINE WideProduct<HalfWords<W>> wide_product(HalfWords<W> a, uint32_t factor) {
  const HalfWords<W> b = HalfWords<W>{} + factor;
  HalfWords<W> product;
#if defined(__AVX512F__)
  if constexpr (W == 16) {
    product = bits_as<HalfWords<W>>(_mm512_maskz_mul_epu32(0xff, bits_as<__m512i>(a), bits_as<__m512i>(b)));
  } else
#endif
#if defined(__AVX2__)
      if constexpr (W == 8) {
    product = bits_as<HalfWords<W>>(_mm256_mul_epu32(bits_as<__m256i>(a), bits_as<__m256i>(b)));
  } else
#endif
#if defined(__SSE2__)
      if constexpr (W == 4) {
    product = bits_as<HalfWords<W>>(_mm_mul_epu32(bits_as<__m128i>(a), bits_as<__m128i>(b)));
  } else
#endif
  {
    product = (a & 0xffffffffu) * b;
  }
  return {product >> 32, product};
}

// The keys of Philox' rounds, of even and of odd lanes.
template <int W>
struct RoundKeys {
  HalfWords<W> key0[2][kPhiloxRounds], key1[2][kPhiloxRounds];
};

template <int W>
inline RoundKeys<W> round_keys(Words<W> key0, Words<W> key1) {
  RoundKeys<W> keys;
  for (int round = 0; round < kPhiloxRounds; ++round) {
    for (int odd = 0; odd < 2; ++odd) {
      keys.key0[odd][round] = bits_as<HalfWords<W>>(key0) >> (32 * odd);
      keys.key1[odd][round] = bits_as<HalfWords<W>>(key1) >> (32 * odd);
    }
    key0 += kPhiloxStep0;
    key1 += kPhiloxStep1;
  }
  return keys;
}

// A stream of one step and sample: element e is word e % 4 of counter (e / 4, step, stream, sample).
//
// Within a stream only the counter's first word changes, and it is the same in all lanes. So the first of the rounds
// multiplies scalars, and half of the second is known beforehand.
template <int W>
class RandomStream {
 public:
  RandomStream(const RoundKeys<W>& keys, uint32_t step, uint32_t stream, uint32_t sample) : keys_(keys) {
    const WideProduct<uint32_t> product = MultiplyWords{}(stream, kPhiloxFactor1);
    for (int odd = 0; odd < 2; ++odd) {
      const WideProduct<HalfWords<W>> p0 =
          wide_product<W>(keys.key0[odd][0] ^ uint64_t{product.high ^ step}, kPhiloxFactor0);
      after_[odd] = {keys.key1[odd][0] ^ uint64_t{sample}, keys.key0[odd][1] ^ uint64_t{product.low},
                     keys.key1[odd][1] ^ p0.high, p0.low};
    }
  }

  ZOOSPARSE_INLINE void words(uint32_t block, Words<W> (&x)[4]) const {
    const WideProduct<uint32_t> product = MultiplyWords{}(block, kPhiloxFactor0);
    HalfWords<W> halves[2][4];
    for (int odd = 0; odd < 2; ++odd) {
      const AfterOne& after = after_[odd];
      HalfWords<W>(&counter)[4] = halves[odd];
      const WideProduct<HalfWords<W>> p1 = wide_product<W>(after.word2 ^ uint64_t{product.high}, kPhiloxFactor1);
      counter[0] = p1.high ^ after.word1;
      counter[1] = p1.low;
      counter[2] = after.high0 ^ uint64_t{product.low};
      counter[3] = after.low0;
      for (int round = 2; round < kPhiloxRounds; ++round)
        philox_round(counter, keys_.key0[odd][round], keys_.key1[odd][round],
                     [](HalfWords<W> a, uint32_t b) ZOOSPARSE_LAMBDA { return wide_product<W>(a, b); });
    }
    for (int i = 0; i < 4; ++i) x[i] = bits_as<Words<W>>((halves[0][i] & 0xffffffffu) | halves[1][i] << 32);
  }

  // Calls body(element, value) for elements [first, first + count), with four values of `make` per block of words.
  template <class Make, class Body>
  inline void for_elements(int64_t first, int64_t count, const Make& make, const Body& body) const {
    Words<W> next[4];
    words(static_cast<uint32_t>(first / 4), next);
    for (int64_t block = first / 4; block * 4 < first + count; ++block) {
      Words<W> x[4];
      for (int i = 0; i < 4; ++i) x[i] = next[i];
      words(static_cast<uint32_t>(block + 1), next);  // integers, while `make` waits for square roots
      Floats<W> value[4];
      make(x, value);
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t element = block * 4 + i;
        if (element >= first && element < first + count) body(element - first, value[i]);
      }
    }
  }

 private:
  // What does not depend on the block: words 1 and 2 after the first round, the second round's first product; with the
  // keys that they meet.
  struct AfterOne {
    HalfWords<W> word2, word1, high0, low0;
  };
  const RoundKeys<W>& keys_;
  AfterOne after_[2];
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
