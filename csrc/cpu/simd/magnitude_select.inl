// Selection of the key of a given rank, everything in the nearest caches.
//
// The k-th smallest key is found by sampling: two keys of a small sample bracket it, one pass keeps the keys between
// them (about a quarter), and so on until no more are left than a sample has. A key that many weights share (zeros of
// an earlier pruning, quantised weights) becomes an end of the bracket and ends the search. Where a sample misleads,
// bisection over the bits of the key takes over at once, one counting pass a bit, so that no row is slow.
// (Sampling: Floyd and Rivest, "Expected Time Bounds for Selection", Communications of the ACM, 1975.)
#pragma once

#include "cpu/simd/magnitude.h"
#include "cpu/simd/vector.h"
#include "select.h"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

template <class Key>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(Key));
template <class Key>
using Keys = Vector<Key, kLanes<Key>>;
template <class Key>
constexpr Key kPadding = sizeof(Key) == 4 ? Key(0x7fffffff) : Key(0x7fffffffffffffff);  // above every key

constexpr int kSample = 64;
constexpr int kMargin = 8;  // ranks of the sample on either side: 2 to 2.5 standard deviations

// A run of keys, padded with four vectors above every key.
template <class Key>
struct Run {
  Key* keys;
  int64_t count;

  void pad() const {
    for (int v = 0; v < 4; ++v) store(keys + count + v * kLanes<Key>, Keys<Key>{} + kPadding<Key>);
  }
};

template <class T, int lanes>
inline T sum(Vector<T, lanes> values) {
  if constexpr (lanes == 2) {
    return values[0] + values[1];
  } else {
    Vector<T, lanes / 2> halves[2];
    __builtin_memcpy(halves, &values, sizeof(values));
    return sum<T, lanes / 2>(halves[0] + halves[1]);
  }
}

// How many lanes are marked, of comparisons added up (each that holds adds -1).
template <class Key>
inline int64_t marked(Keys<Key> comparisons) {
  return -static_cast<int64_t>(sum<Key, kLanes<Key>>(comparisons));
}

// How many keys are below the pivot.
template <class Key>
int64_t count_below(Run<Key> run, Key pivot) {
  constexpr int lanes = kLanes<Key>;
  Keys<Key> even{}, odd{};  // a comparison that holds is -1
  for (int64_t i = 0; i < run.count; i += 2 * lanes) {
    even += load<Keys<Key>>(run.keys + i) < pivot;
    odd += load<Keys<Key>>(run.keys + i + lanes) < pivot;
  }
  return marked<Key>(even + odd);
}

// The key of the given rank (0 = smallest), known to lie between `low` and `high`, both exclusive: bit by bit the
// largest key that has at most `rank` keys below it.
template <class Key>
__attribute__((noinline)) Key bisect(Run<Key> run, int64_t rank, Key low, Key high) {
  ++low, --high;
  if (low == high) return low;
  const int top = 63 - __builtin_clzll(static_cast<uint64_t>(low ^ high));  // bits above are common to both
  Key found = low >> top >> 1 << top << 1;
  for (int bit = top; bit >= 0; --bit) {
    const Key trial = found | Key(1) << bit;
    found |= Key(count_below(run, trial) <= rank) << bit;
  }
  return found;
}

// At most kSample keys and, for each, how many of them are below it.
template <class Key>
struct Ranked {
  static constexpr int lanes = kLanes<Key>;
  alignas(64) Key keys[kSample + kSelectPad];
  alignas(64) Key below[kSample + kSelectPad];
  int64_t count;

  // Every key against every other, without a branch; `keys` must be padded.
  void rank() {
    for (int64_t i = 0; i < count; i += 4 * lanes) {
      Keys<Key> mine[4], smaller[4] = {};
      for (int v = 0; v < 4; ++v) mine[v] = load<Keys<Key>>(keys + i + v * lanes);
      for (int64_t j = 0; j < count; ++j)
        for (int v = 0; v < 4; ++v) smaller[v] += mine[v] > keys[j];
      for (int v = 0; v < 4; ++v) store(below + i + v * lanes, -smaller[v]);
    }
  }

  // The key of the given rank: of those with at most `rank` keys below them, the largest.
  Key at(int64_t rank) const {
    Keys<Key> largest{};
    for (int64_t i = 0; i < count; i += lanes) {
      const auto candidates = load<Keys<Key>>(keys + i) & (load<Keys<Key>>(below + i) <= static_cast<Key>(rank));
      largest = candidates > largest ? candidates : largest;
    }
    Key found = 0;
    for (int lane = 0; lane < lanes; ++lane) found = largest[lane] > found ? largest[lane] : found;
    return found;
  }
};

// At most `most` keys of a run, evenly spaced.
template <class Key>
Ranked<Key> ranked_sample(Run<Key> run, int64_t most) {
  Ranked<Key> sample;
  sample.count = run.count < most ? run.count : most;
  const uint64_t step = (static_cast<uint64_t>(run.count) << 32) / static_cast<uint64_t>(sample.count);
  for (int64_t i = 0; i < sample.count; ++i)
    sample.keys[i] = run.keys[(step / 2 + static_cast<uint64_t>(i) * step) >> 32];
  Run<Key>{sample.keys, sample.count}.pad();
  sample.rank();
  return sample;
}

#if defined(__AVX2__)
// For each of 256 masks of eight 32-bit lanes, the lanes it marks, in order.
struct Permutations {
  uint8_t lanes[256][8] = {};
  constexpr Permutations() {
    for (int mask = 0; mask < 256; ++mask)
      for (int lane = 0, next = 0; lane < 8; ++lane)
        if (mask >> lane & 1) lanes[mask][next++] = lane;
  }
};
alignas(64) constexpr Permutations kPermutations;

// A 64-bit lane is two marked 32-bit lanes.
template <class Key>
inline int append_by_permutation(Key* to, Keys<Key> keys, Keys<Key> keep) {
  const unsigned mask = _mm256_movemask_ps(__builtin_bit_cast(__m256, keep));
  const __m256i order =
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kPermutations.lanes[mask])));
  store(to, _mm256_permutevar8x32_epi32(__builtin_bit_cast(__m256i, keys), order));
  return __builtin_popcount(mask) * 4 / static_cast<int>(sizeof(Key));
}
#endif

// Appends the lanes that `keep` marks (all ones) to `to`, which has room for a whole vector; how many they are.
template <class Key>
inline int append(Key* to, Keys<Key> keys, Keys<Key> keep) {
#if defined(__AVX512F__) || defined(ZOOSPARSE_EMULATE_AVX512)
  // Compress in a register and store whole: compressing stores are slow on Zen 4.
  const auto lanes = __builtin_bit_cast(__m512i, keys), marks = __builtin_bit_cast(__m512i, keep);
  const unsigned mask = sizeof(Key) == 4 ? _mm512_movepi32_mask(marks) : _mm512_movepi64_mask(marks);
  store(to, sizeof(Key) == 4 ? _mm512_maskz_compress_epi32(mask, lanes) : _mm512_maskz_compress_epi64(mask, lanes));
  return __builtin_popcount(mask);
#elif defined(__AVX2__)
  if constexpr (sizeof(keys) == 32) return append_by_permutation(to, keys, keep);
#endif
  int appended = 0;
  for (int lane = 0; lane < kLanes<Key>; ++lane) {
    to[appended] = keys[lane];
    appended -= static_cast<int>(keep[lane]);
  }
  return appended;
}

struct Split {
  int64_t up_to_low, between;
};

// Copies the keys strictly between `low` and `high` to `to`; how many are at most `low`, and how many were copied.
template <class Key>
Split split(Run<Key> run, Key low, Key high, Key* to) {
  Keys<Key> above_low{};
  int64_t between = 0, i = 0;
  for (; i < run.count; i += kLanes<Key>) {
    const auto keys = load<Keys<Key>>(run.keys + i);
    const auto above = keys > low;
    above_low += above;
    between += append<Key>(to + between, keys, above & (keys < high));
  }
  return {i - marked<Key>(above_low), between};  // padding counts as above
}

template <class Key>
struct Selected {
  Key key;
  int64_t rank_among_equals;  // 0: no key equal to it comes before
};

template <class Key>
Selected<Key> select_by_bisection(Run<Key> run, int64_t rank, Key low, Key high) {
  const Key key = bisect(run, rank, low, high);
  return {key, rank - count_below(run, key)};
}

// The key of the given rank (0 = smallest). Overwrites `spare` and `other`, each with room for the padded run.
template <class Key>
Selected<Key> select(Run<Key> run, int64_t rank, Key* spare, Key* other) {
  Key low = -1, high = kPadding<Key>;  // exclusive bounds of the run's keys
  while (run.count > kSample) {
    const auto sample = ranked_sample(run, kSample);
    const int64_t middle = rank * kSample / run.count;
    const Key from = middle < kMargin ? low : sample.at(middle - kMargin);
    const Key to = middle + kMargin >= kSample ? high : sample.at(middle + kMargin);

    const auto [up_to_low, between] = split(run, from, to, spare);
    if (rank < up_to_low) {
      const int64_t below = count_below(run, from);
      if (rank >= below) return {from, rank - below};
      return select_by_bisection(run, rank, low, from);
    }
    if (rank >= up_to_low + between) {
      if (rank < count_below(run, Key(to + 1))) return {to, rank - up_to_low - between};
      return select_by_bisection(run, rank, to, high);
    }
    const bool stuck = between > run.count / 2;
    rank -= up_to_low;
    run = {spare, between};
    run.pad();
    low = from, high = to;
    if (stuck) return select_by_bisection(run, rank, low, high);
    Key* const used = spare;
    spare = other;
    other = used;
  }
  const Key key = ranked_sample(run, kSample).at(rank);
  return {key, rank - count_below(run, key)};
}

// Keys of `count` weights into `to`, padded.
template <class Word, class Key>
Run<Key> make_keys(const Word* __restrict weights, int64_t count, Key infinity, Key* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = magnitude_key<Key>(weights[i], infinity);
  const Run<Key> run{to, count};
  run.pad();
  return run;
}

// Where the last of `quota` keys equal to `threshold` stands, plus one: ties before it are pruned, from it on kept.
template <class Key>
int64_t cut_of_ties(Run<Key> run, Key threshold, int64_t quota) {
  constexpr int block = 4 * kLanes<Key>;
  int64_t i = 0;
  for (; i + block <= run.count; i += block) {
    Keys<Key> equal{};
    for (int v = 0; v < 4; ++v) equal += load<Keys<Key>>(run.keys + i + v * kLanes<Key>) == threshold;
    const int64_t ties = marked<Key>(equal);
    if (ties >= quota) break;
    quota -= ties;
  }
  for (; i < run.count; ++i)
    if (run.keys[i] == threshold && --quota == 0) return i + 1;
  return run.count;
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
