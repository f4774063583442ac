// Runs of keys and what vectors do with them: count, keep, rank.
#pragma once

#include "common/select.h"
#include "cpu/simd/magnitude.h"
#include "cpu/simd/vector.h"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

template <class Key>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(Key));
template <class Key>
using Keys = Vector<Key, kLanes<Key>>;
template <class Key>
constexpr Key kPadding = sizeof(Key) == 4 ? Key(0x7fffffff) : Key(0x7fffffffffffffff);  // above every key

// 0, 1, ...
template <class Key>
inline Keys<Key> lane_numbers() {
  Keys<Key> numbers;
  for (int lane = 0; lane < kLanes<Key>; ++lane) numbers[lane] = lane;
  return numbers;
}

// A run of keys, padded with four vectors above every key.
template <class Key>
struct Run {
  Key* keys;
  int64_t count;

  void pad() const {
    for (int v = 0; v < 4; ++v) store(keys + count + v * kLanes<Key>, Keys<Key>{} + kPadding<Key>);
  }
};

// combine(combine(lane 0, …), …): halves of the vector, halves of the half and so on.
template <class T, int lanes, class Combine>
inline T reduce(Vector<T, lanes> values, const Combine& combine) {
  if constexpr (lanes == 1) {
    return values[0];
  } else {
    Vector<T, lanes / 2> halves[2];
    __builtin_memcpy(halves, &values, sizeof(values));
    return reduce<T, lanes / 2>(combine(halves[0], halves[1]), combine);
  }
}

// Marks are the lanes for which a comparison holds: bits in AVX-512, elsewhere lanes of all ones. above(), append() and
// Tally are all that is done with them, besides & and ~.
#if defined(__AVX512F__) || defined(ZOOSPARSE_EMULATE_AVX512)
template <class Key>
using Marks = unsigned;

template <class Key>
inline Marks<Key> above(Keys<Key> keys, Keys<Key> limit) {
  const auto left = __builtin_bit_cast(__m512i, keys), right = __builtin_bit_cast(__m512i, limit);
  return sizeof(Key) == 4 ? _mm512_cmpgt_epi32_mask(left, right) : _mm512_cmpgt_epi64_mask(left, right);
}

// How many lanes were marked, one vector after the other.
template <class Key>
struct Tally {
  int64_t total = 0;
  void add(Marks<Key> marks) { total += __builtin_popcount(marks); }
  int64_t sum() const { return total; }
};

// Adds 1 to every lane that is marked.
template <class Key>
inline Keys<Key> increment(Keys<Key> counts, Marks<Key> marks) {
  const auto lanes = __builtin_bit_cast(__m512i, counts), minus_one = _mm512_set1_epi32(-1);
  return __builtin_bit_cast(Keys<Key>, sizeof(Key) == 4 ? _mm512_mask_sub_epi32(lanes, marks, lanes, minus_one)
                                                        : _mm512_mask_sub_epi64(lanes, marks, lanes, minus_one));
}

// Appends the marked lanes to `to`, which has room for a whole vector; how many they are. Compress in a register and
// store whole: compressing stores are slow on Zen 4.
template <class Key>
inline int append(Key* to, Keys<Key> keys, Marks<Key> marks) {
  const auto lanes = __builtin_bit_cast(__m512i, keys);
  marks &= (1u << kLanes<Key>)-1;
  store(to, sizeof(Key) == 4 ? _mm512_maskz_compress_epi32(marks, lanes) : _mm512_maskz_compress_epi64(marks, lanes));
  return __builtin_popcount(marks);
}
#else
template <class Key>
using Marks = Keys<Key>;

template <class Key>
inline Marks<Key> above(Keys<Key> keys, Keys<Key> limit) {
  return keys > limit;
}

template <class Key>
struct Tally {
  Keys<Key> totals{};
  void add(Marks<Key> marks) { totals -= marks; }
  int64_t sum() const {
    return reduce<Key, kLanes<Key>>(totals, [](auto a, auto b) { return a + b; });
  }
};

template <class Key>
inline Keys<Key> increment(Keys<Key> counts, Marks<Key> marks) {
  return counts - marks;
}

#if defined(__AVX2__)
// For each of 256 masks of eight 32-bit lanes, the lanes it marks, four bits each, the first one lowest.
struct Orders {
  uint32_t lanes[256] = {};
  constexpr Orders() {
    for (unsigned mask = 0; mask < 256; ++mask)
      for (unsigned lane = 0, next = 0; lane < 8; ++lane)
        if (mask >> lane & 1) lanes[mask] |= lane << 4 * next++;
  }
};
alignas(64) constexpr Orders kOrders;

// A 64-bit lane is two marked 32-bit lanes.
template <class Key>
inline int append_by_permutation(Key* to, Keys<Key> keys, Marks<Key> marks) {
  const unsigned mask = _mm256_movemask_ps(__builtin_bit_cast(__m256, marks));
  const auto shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);  // a permutation looks at the lowest three bits
  const auto order = _mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(kOrders.lanes[mask])), shifts);
  store(to, _mm256_permutevar8x32_epi32(__builtin_bit_cast(__m256i, keys), order));
  return __builtin_popcount(mask) * 4 / static_cast<int>(sizeof(Key));
}
#endif

template <class Key>
inline int append(Key* to, Keys<Key> keys, Marks<Key> marks) {
#if defined(__AVX2__)
  if constexpr (sizeof(keys) == 32) return append_by_permutation(to, keys, marks);
#endif
  int appended = 0;
  for (int lane = 0; lane < kLanes<Key>; ++lane) {
    to[appended] = keys[lane];
    appended -= static_cast<int>(marks[lane]);
  }
  return appended;
}
#endif

template <class Key>
inline Marks<Key> below(Keys<Key> keys, Key limit) {
  return above<Key>(Keys<Key>{} + limit, keys);
}

// How many keys are below the limit.
template <class Key>
int64_t count_below(Run<Key> run, Key limit) {
  constexpr int lanes = kLanes<Key>;
  Tally<Key> even, odd;
  for (int64_t i = 0; i < run.count; i += 2 * lanes) {
    even.add(below<Key>(load<Keys<Key>>(run.keys + i), limit));
    odd.add(below<Key>(load<Keys<Key>>(run.keys + i + lanes), limit));
  }
  return even.sum() + odd.sum();
}

// Calls use(key) for kSample keys of a run, evenly spaced.
constexpr int kSample = 64;
template <class Key, class Use>
inline void for_sample(Run<Key> run, const Use& use) {
  const uint64_t step = (static_cast<uint64_t>(run.count) << 32) / kSample;
  for (uint64_t i = 0; i < kSample; ++i) use(run.keys[(step / 2 + i * step) >> 32]);
}

// At most kRankable keys and the rank of each: how many are smaller, or equal and before it.
constexpr int kRankable = 128;  // as many, and ranking each against all is cheaper than anything else
template <class Key>
struct Ranked {
  static constexpr int lanes = kLanes<Key>;
  // The keys are followed by some above every key, up to a multiple of this; of the ranks as many more are read.
  static constexpr int kPadded = 32;

  alignas(64) Key keys[kRankable];
  alignas(64) Key ranks[kRankable + kPadded];
  int64_t count;

  // Every key against every other, 16 at once: a few more or less take the same branches.
  void rank() {
    constexpr int64_t step = 16;
    auto columns = lane_numbers<Key>();
    for (int64_t i = 0; i < count; i += lanes, columns += lanes) {
      const auto mine = load<Keys<Key>>(keys + i);
      Keys<Key> before{};
      const auto against = [&](int64_t j, const auto& least_behind) {
        for (int64_t k = j; k < j + step; ++k)
          before = increment<Key>(before, above<Key>(mine, Keys<Key>{} + keys[k] + least_behind(k)));
      };
      const int64_t own = i / step * step;
      for (int64_t j = 0; j < own; j += step) against(j, [](int64_t) { return Key(-1); });
      against(own, [&](int64_t k) { return columns > static_cast<Key>(k); });  // -1 where it holds
      for (int64_t j = own + step; j < count; j += step) against(j, [](int64_t) { return Key(0); });
      store(ranks + i, before);
    }
  }

  // The key of the given rank.
  Key at(int64_t rank) const {
    Keys<Key> largest{};
    for (int64_t i = 0; i < count; i += lanes) {
      const auto candidates = load<Keys<Key>>(keys + i) & (load<Keys<Key>>(ranks + i) <= static_cast<Key>(rank));
      largest = candidates > largest ? candidates : largest;
    }
    return reduce<Key, lanes>(largest, [](auto a, auto b) { return a > b ? a : b; });
  }
};

template <class Key>
Ranked<Key> ranked_sample(Run<Key> run) {
  Ranked<Key> sample;
  sample.count = 0;
  for_sample(run, [&](Key key) { sample.keys[sample.count++] = key; });
  sample.rank();
  return sample;
}

// All keys of a run of at most kRankable, of which whole vectors are read.
template <class Key>
Ranked<Key> ranked(Run<Key> run) {
  Ranked<Key> all;
  all.count = run.count;
  auto column = lane_numbers<Key>();
  for (int64_t i = 0; i < run.count; i += all.kPadded)
    for (int64_t j = i; j < i + all.kPadded; j += kLanes<Key>, column += kLanes<Key>) {
      const auto inside = column < static_cast<Key>(run.count);
      store(all.keys + j, inside ? load<Keys<Key>>(run.keys + j) : Keys<Key>{} + kPadding<Key>);
    }
  all.rank();
  return all;
}

// Whether a run has one key only, however often.
template <class Key>
bool all_equal(Run<Key> run) {
  auto differences = Keys<Key>{};
  int64_t i = 0;
  for (; i + kLanes<Key> <= run.count; i += kLanes<Key>) differences |= load<Keys<Key>>(run.keys + i) ^ run.keys[0];
  Key different = reduce<Key, kLanes<Key>>(differences, [](auto a, auto b) { return a | b; });
  for (; i < run.count; ++i) different |= run.keys[i] ^ run.keys[0];
  return different == 0;
}

// Keys of `count` weights into `to`, padded. What follows the weights, most often the next row, is fetched meanwhile:
// as the row is worked on in the nearest cache, memory would stand idle.
template <class Word, class Key>
Run<Key> make_keys(const Word* __restrict weights, int64_t count, Key infinity, Key* __restrict to) {
  constexpr int64_t line = 64 / sizeof(Word);
  int64_t i = 0;
  for (; i + line <= count; i += line) {
    __builtin_prefetch(weights + i + count, 0, 2);
    for (int64_t j = 0; j < line; ++j) to[i + j] = magnitude_key<Key>(weights[i + j], infinity);
  }
  for (; i < count; ++i) to[i] = magnitude_key<Key>(weights[i], infinity);
  const Run<Key> run{to, count};
  run.pad();
  return run;
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
