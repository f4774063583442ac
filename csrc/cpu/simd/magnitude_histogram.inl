// Keys counted by buckets of neighbouring keys.
#pragma once

#include "cpu/simd/magnitude_keys.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

constexpr int kBuckets = 512;  // a bit of the widest vector for each
constexpr int kBlock = 16;     // buckets that are skipped together

// Buckets that divide [from, to] evenly; the first one holds lower keys as well, and the last one higher keys.
template <class Key>
class Scale {
 public:
  Scale(Key from, Key to) : under_(from - 1), over_(to + 1) {
    while ((over_ - under_) >> shift_ >= kOne) ++shift_;
    const Key steps = ((over_ - under_) >> shift_) + 1;
    buckets_per_step_ = steps < kBuckets ? kOne : kBuckets * kOne / steps;
  }

  // Of a key, or of a vector of keys.
  template <class T>
  T bucket(T key) const {
    const T under = T{} + under_, over = T{} + over_;
    const T clamped = key < under ? under : key > over ? over : key;
    return ((clamped - under_) >> shift_) * buckets_per_step_ >> kFraction;
  }
  Key last_bucket() const { return bucket(over_); }

  // The lowest key of any bucket but the first.
  Key first_of(Key bucket) const {
    const Key step = ((bucket << kFraction) + buckets_per_step_ - 1) / buckets_per_step_;
    return under_ + (step << shift_);
  }

 private:
  static constexpr int kFraction = 15;  // the product of two such numbers is a key still
  static constexpr Key kOne = Key(1) << kFraction;

  Key under_, over_;
  int shift_ = 0;
  Key buckets_per_step_;
};

struct Histogram {
  alignas(64) uint32_t counts[4][kBuckets];  // neighbours go to different tables; the first one holds the sums
  uint32_t in_block[kBuckets / kBlock];

  // Counts the keys of every bucket; buckets[i] is that of key i, up to a whole vector.
  template <class Key>
  Histogram(Run<Key> run, const Scale<Key> scale, uint16_t* __restrict buckets) {
    constexpr int lanes = kLanes<Key>;
    for (int64_t i = 0; i < run.count; i += lanes)
      store(buckets + i, __builtin_convertvector(scale.bucket(load<Keys<Key>>(run.keys + i)), Vector<uint16_t, lanes>));
    for (auto& table : counts)
      for (uint32_t& count : table) count = 0;
    int64_t i = 0;
    for (; i + 4 <= run.count; i += 4) {
      const auto four = load<uint64_t>(buckets + i);
      ++counts[0][four & 0xffff], ++counts[1][four >> 16 & 0xffff];
      ++counts[2][four >> 32 & 0xffff], ++counts[3][four >> 48];
    }
    for (; i < run.count; ++i) ++counts[0][buckets[i]];
    for (int block = 0; block < kBuckets / kBlock; ++block) {
      uint32_t sum = 0;
      for (int b = block * kBlock; b < (block + 1) * kBlock; ++b)
        sum += counts[0][b] += counts[1][b] + counts[2][b] + counts[3][b];
      in_block[block] = sum;
    }
  }
};

// A set of buckets.
class BucketSet {
 public:
  void add(int bucket) { words_[bucket / 32] |= uint32_t{1} << bucket % 32; }

  // Copies the keys whose buckets are in the set, and some others behind them: fewer than 32, in whole vectors.
  template <class Key>
  void filter(Run<Key> run, const uint16_t* buckets, Key* __restrict to) const {
#if defined(__AVX512F__) || defined(ZOOSPARSE_EMULATE_AVX512)
    constexpr int together = 32;
    const auto set = load<__m512i>(words_), one = _mm512_set1_epi16(1), low = _mm512_set1_epi16(15);
    for (int64_t i = 0; i < run.count; i += together) {
      const auto bucket = load<__m512i>(buckets + i);
      const auto word = _mm512_permutexvar_epi16(_mm512_srli_epi16(bucket, 4), set);
      const uint32_t marks = _mm512_test_epi16_mask(word, _mm512_sllv_epi16(one, _mm512_and_si512(bucket, low)));
      for (int j = 0; j < together; j += kLanes<Key>)
        to += append<Key>(to, load<Keys<Key>>(run.keys + i + j), marks >> j);
    }
#else
#if defined(__AVX2__) && !defined(ZOOSPARSE_VECTOR_BYTES)
    if constexpr (sizeof(Key) == 4) {
      const auto first = load<__m256i>(words_), second = load<__m256i>(words_ + 8);
      for (int64_t i = 0; i < run.count; i += kLanes<Key>) {
        const auto bucket = _mm256_cvtepu16_epi32(load<__m128i>(buckets + i)), index = _mm256_srli_epi32(bucket, 5);
        const auto of = [&](__m256i words) {
          return _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(words, index));  // looks at the lowest three bits
        };
        const auto in_second = _mm256_castsi256_ps(_mm256_slli_epi32(bucket, 23));  // the ninth bit becomes the sign
        const auto word = _mm256_castps_si256(_mm256_blendv_ps(of(first), of(second), in_second));
        const auto sign = _mm256_sllv_epi32(word, _mm256_andnot_si256(bucket, _mm256_set1_epi32(31)));
        to += append_by_permutation<Key>(to, load<Keys<Key>>(run.keys + i), __builtin_bit_cast(Marks<Key>, sign));
      }
      return;
    }
#endif
    int64_t kept = 0;
    for (int64_t i = 0; i < run.count; ++i) {
      to[kept] = run.keys[i];
      kept += words_[buckets[i] / 32] >> buckets[i] % 32 & 1;
    }
#endif
  }

 private:
  alignas(64) uint32_t words_[kBuckets / 32] = {};
};

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
