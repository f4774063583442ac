// Keys counted by buckets of neighbouring keys.
#pragma once

#include <algorithm>
#include <bit>
#include <initializer_list>
#include <type_traits>

#include "cpu/simd/magnitude_keys.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

#if defined(__AVX512F__) || defined(ZOOSPARSE_EMULATE_AVX512)
constexpr int kBucketBits = 10;
#else
constexpr int kBucketBits = 9;
#endif
constexpr int kBuckets = 1 << kBucketBits;  // a bit of two of the widest vectors for each
constexpr int kBlock = 16;                  // buckets that are skipped together

// Buckets that divide [from, to] evenly; the first one holds lower keys as well, and the last one higher keys. If
// `apart`, zero has a bucket of its own before them, and infinity and NaN behind them: keys that many weights may
// share, and between which and the others lie exponents without a key.
template <class Key>
class Scale {
 public:
  Scale(Key from, Key to, bool apart, Key infinity) : from_(from), to_(to), infinity_(infinity), apart_(apart) {
    const int bits = std::bit_width(static_cast<std::make_unsigned_t<Key>>(to - from));
    shift_ = bits > kBucketBits ? bits - kBucketBits : 0;
    if (apart && ((to - from) >> shift_) + 3 >= kBuckets) ++shift_;
  }

  // Buckets of all keys of a run, up to a whole vector.
  void find(Run<Key> run, int16_t* __restrict buckets) const {
    if (apart_)
      find<true>(run, buckets);
    else
      find<false>(run, buckets);
  }
  Key last_bucket() const { return ((to_ - from_) >> shift_) + (apart_ ? 3 : 0); }

  // The lowest key that may be in a bucket, but for the first one.
  Key first_of(Key bucket) const {
    if (!apart_) return from_ + (bucket << shift_);
    if (bucket <= 1) return bucket;
    const Key beyond = bucket - (last_bucket() - 1);
    return beyond >= 0 ? infinity_ + beyond : from_ + ((bucket - 1) << shift_);
  }

 private:
  template <bool apart>
  void find(Run<Key> run, int16_t* __restrict buckets) const {
    const Keys<Key> from = Keys<Key>{} + from_, to = Keys<Key>{} + to_;
    for (int64_t i = 0; i < run.count; i += kLanes<Key>) {
      const auto keys = load<Keys<Key>>(run.keys + i);
      const auto clamped = keys < from ? from : keys > to ? to : keys;
      auto bucket = (clamped - from) >> shift_;
      if (apart)
        for (const Key limit : {Key(0), Key(infinity_ - 1), infinity_})
          bucket = increment<Key>(bucket, above<Key>(keys, Keys<Key>{} + limit));
      store(buckets + i, __builtin_convertvector(bucket, Vector<int16_t, kLanes<Key>>));
    }
  }

  Key from_, to_, infinity_;
  int shift_;
  bool apart_;
};

// How many keys are in every bucket.
struct Histogram {
  alignas(64) uint32_t counts[kBuckets];
  uint32_t in_block[kBuckets / kBlock];

  Histogram(const int16_t* buckets, int64_t keys) {
    int64_t counted = 0;
    do {
      const int64_t next = std::min(keys - counted, kAtOnce);
      count(buckets + counted, next, counted == 0);
      counted += next;
    } while (counted < keys);
    for (int block = 0; block < kBuckets / kBlock; ++block) {
      uint32_t sum = 0;
      for (int b = block * kBlock; b < (block + 1) * kBlock; ++b) sum += counts[b];
      in_block[block] = sum;
    }
  }

 private:
  static constexpr int64_t kAtOnce = 0xfffc;  // as many keys as 16 bits count

  // Neighbours go to different tables: in one, those of the same bucket would wait for each other. (Not inline: nine
  // masks take 7 % longer where GCC 12 makes the loop a part of locate().)
  [[gnu::noinline]] void count(const int16_t* __restrict buckets, int64_t keys, bool first) {
    alignas(64) uint16_t tables[4][kBuckets];
    __builtin_memset(tables, 0, sizeof tables);
    int64_t i = 0;
    for (; i + 4 <= keys; i += 4) {
      const auto four = load<uint64_t>(buckets + i);
      ++tables[0][four & 0xffff], ++tables[1][four >> 16 & 0xffff];
      ++tables[2][four >> 32 & 0xffff], ++tables[3][four >> 48];
    }
    for (; i < keys; ++i) ++tables[0][buckets[i]];
    for (int b = 0; b < kBuckets; ++b) {
      const auto sum = static_cast<uint16_t>(tables[0][b] + tables[1][b] + tables[2][b] + tables[3][b]);
      counts[b] = first ? sum : counts[b] + sum;
    }
  }
};

// A set of buckets.
class BucketSet {
 public:
  BucketSet(std::initializer_list<int> buckets = {}) {
    for (const int bucket : buckets) add(bucket);
  }
  void add(int bucket) { words_[bucket / 32] |= uint32_t{1} << bucket % 32; }

  // Writes the columns whose buckets are in the set, and some others behind them: fewer than 32.
  void filter(const int16_t* buckets, int64_t columns, int32_t* __restrict to) const {
#if defined(__AVX512F__) || defined(ZOOSPARSE_EMULATE_AVX512)
    const auto first = load<__m512i>(words_), second = load<__m512i>(words_ + 16);
    const auto one = _mm512_set1_epi16(1), low = _mm512_set1_epi16(15);
    auto column = lane_numbers<int32_t>();
    for (int64_t i = 0; i < columns; i += 32) {
      const auto bucket = load<__m512i>(buckets + i);
      const auto word = _mm512_permutex2var_epi16(first, _mm512_srli_epi16(bucket, 4), second);
      const uint32_t marks = _mm512_test_epi16_mask(word, _mm512_sllv_epi16(one, _mm512_and_si512(bucket, low)));
      for (int j = 0; j < 32; j += 16, column += 16) to += append<int32_t>(to, column, marks >> j);
    }
#elif defined(__AVX2__) && !defined(ZOOSPARSE_VECTOR_BYTES)
    const auto first = load<__m256i>(words_), second = load<__m256i>(words_ + 8);
    auto column = lane_numbers<int32_t>();
    for (int64_t i = 0; i < columns; i += 8, column += 8) {
      const auto bucket = _mm256_cvtepu16_epi32(load<__m128i>(buckets + i)), index = _mm256_srli_epi32(bucket, 5);
      const auto of = [&](__m256i words) {
        return _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(words, index));  // looks at the lowest three bits
      };
      const auto in_second = _mm256_castsi256_ps(_mm256_slli_epi32(bucket, 23));  // the ninth bit becomes the sign
      const auto word = _mm256_castps_si256(_mm256_blendv_ps(of(first), of(second), in_second));
      const auto sign = _mm256_sllv_epi32(word, _mm256_andnot_si256(bucket, _mm256_set1_epi32(31)));
      to += append_by_permutation<int32_t>(to, column, __builtin_bit_cast(Marks<int32_t>, sign));
    }
#else
    for (int64_t i = 0; i < columns; ++i) {
      *to = static_cast<int32_t>(i);
      to += words_[buckets[i] / 32] >> buckets[i] % 32 & 1;
    }
#endif
  }

 private:
  alignas(64) uint32_t words_[kBuckets / 32] = {};
};

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
