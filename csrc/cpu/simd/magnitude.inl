// Exact selection by magnitude within one row, everything in the nearest caches.
//
// The k-th smallest key is found by sampling: two keys of a sorted sample bracket it, one pass keeps the keys between
// them (a few per cent of the row), and so on until few are left; bisection over the bits of the key finds it among
// those. Where a sample misleads or the row has too few distinct values to shrink, bisection takes over at once: one
// counting pass a bit, so there is no row that is slow. (Floyd and Rivest, "Expected Time Bounds for Selection", 1975.)
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

constexpr int kSample = 64;
constexpr int kMargin = 8;   // ranks of the sample on either side: 2 to 2.5 standard deviations
constexpr int kSmall = 256;  // few enough keys that bisection is quicker than another sample

// A run of keys, padded with at least two vectors above every key.
template <class Key>
struct Run {
  Key* keys;
  int64_t count;

  void pad() const {
    for (int v = 0; v < 2; ++v) store(keys + count + v * kLanes<Key>, Keys<Key>{} + kPadding<Key>);
  }
};

template <class V>
inline int64_t sum(V lanes) {
  int64_t total = 0;
  for (unsigned i = 0; i < sizeof(V) / sizeof(lanes[0]); ++i) total += lanes[i];
  return total;
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
  return -sum(even + odd);
}

// The key of the given rank (0 = smallest), known to lie in [low, high]: bit by bit the largest key t that has at most
// `rank` keys below it.
template <class Key>
Key bisect(Run<Key> run, int64_t rank, Key low, Key high) {
  if (low == high) return low;
  const int top = 63 - __builtin_clzll(static_cast<uint64_t>(low ^ high));  // bits above are common to both
  Key found = low >> top >> 1 << top << 1;
  for (int bit = top; bit >= 0; --bit) {
    const Key trial = found | Key(1) << bit;
    if (count_below(run, trial) <= rank) found = trial;
  }
  return found;
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
#if defined(__AVX512F__)
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

// Copies the keys in [low, high] to `to`; how many are below `low` and how many were copied.
template <class Key>
struct Split {
  int64_t below, inside;
};
template <class Key>
Split<Key> copy_between(Run<Key> run, Key low, Key high, Key* to) {
  Keys<Key> below{};
  int64_t inside = 0;
  for (int64_t i = 0; i < run.count; i += kLanes<Key>) {
    const auto keys = load<Keys<Key>>(run.keys + i);
    below += keys < low;
    inside += append<Key>(to + inside, keys, (keys >= low) & (keys <= high));
  }
  return {-sum(below), inside};
}

// The key of the given rank (0 = smallest). Overwrites `spare` and `other_spare`, each with room for the padded run.
template <class Key>
Key select(Run<Key> run, int64_t rank, Key* spare, Key* other_spare) {
  Key low = 0, high = kPadding<Key> - 1;
  while (run.count > kSmall) {
    alignas(64) Key sample[kSample + kSelectPad];
    for (int64_t i = 0; i < kSample; ++i) sample[i] = run.keys[(2 * i + 1) * run.count / (2 * kSample)];
    const Run<Key> sampled{sample, kSample};
    sampled.pad();
    const int64_t middle = rank * kSample / run.count;
    if (middle >= kMargin) low = bisect(sampled, middle - kMargin, low, high);
    if (middle + kMargin < kSample) high = bisect(sampled, middle + kMargin, low, high);

    const auto [below, inside] = copy_between(run, low, high, spare);
    const bool missed = rank < below || rank >= below + inside;
    if (missed) return bisect(run, rank, Key(0), Key(kPadding<Key> - 1));
    if (low == high) return low;
    const bool stuck = inside > run.count / 2;
    rank -= below;
    run = {spare, inside};
    run.pad();
    if (stuck) break;
    Key* const free = spare;
    spare = other_spare;
    other_spare = free;
  }
  return bisect(run, rank, low, high);
}

// Keys of `count` weights into `to`, padded.
template <class Word, class Key>
Run<Key> make_keys(const Word* weights, int64_t count, Key infinity, Key* to) {
  using Words = Vector<Word, kLanes<Key>>;
  constexpr Word magnitude = static_cast<Word>(~Word(0)) >> 1;  // all but the sign
  const Key nan = infinity + 1;
  int64_t i = 0;
  for (; i + kLanes<Key> <= count; i += kLanes<Key>) {
    const auto keys = __builtin_convertvector(load<Words>(weights + i) & magnitude, Keys<Key>);
    store(to + i, keys > nan ? Keys<Key>{} + nan : keys);
  }
  for (; i < count; ++i) {
    const Key key = static_cast<Key>(weights[i] & magnitude);
    to[i] = key > nan ? nan : key;
  }
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
    const int64_t ties = -sum(equal);
    if (ties >= quota) break;
    quota -= ties;
  }
  for (; i < run.count; ++i)
    if (run.keys[i] == threshold && --quota == 0) return i + 1;
  return run.count;
}

// Columns [first, last): kept where the key is above `limit`.
template <class Word, class Key>
void write(Run<Key> run, int64_t first, int64_t last, Key limit, Word* weights, uint8_t* mask) {
  constexpr int lanes = kLanes<Key>;
  int64_t i = first;
  for (; i + lanes <= last; i += lanes) {
    const auto kept = load<Keys<Key>>(run.keys + i) > limit;
    if (weights != nullptr)
      store(weights + i, load<Vector<Word, lanes>>(weights + i) & __builtin_convertvector(kept, Vector<Word, lanes>));
    if (mask != nullptr) store(mask + i, -__builtin_convertvector(kept, Vector<int8_t, lanes>));
  }
  for (; i < last; ++i) {
    const bool kept = run.keys[i] > limit;
    if (weights != nullptr && !kept) weights[i] = 0;
    if (mask != nullptr) mask[i] = kept;
  }
}

// The weight whose magnitude has this key, as a quiet NaN if it is one.
template <class Word, class Key>
Word to_weight(Key key, Key infinity) {
  const Key quiet = (infinity & -infinity) >> 1;
  return static_cast<Word>(key > infinity ? infinity | quiet : key);
}

template <class Word, class Key>
void select_row(const SelectRow& row) {
  const auto infinity = static_cast<Key>(row.infinity);
  auto* const thresholds = static_cast<Word*>(row.thresholds);
  for (int64_t s = 0; s < row.segment_count; ++s) {
    const int64_t start = row.segments[s], count = row.segments[s + 1] - start, k = row.k[s];
    auto* const weights = static_cast<Word*>(row.weights) + start;
    auto* const pruned = row.prune ? weights : nullptr;
    auto* const mask = row.mask != nullptr ? row.mask + start : nullptr;
    if (k == 0) {
      constexpr Word sign = static_cast<Word>(Word(1) << (8 * sizeof(Word) - 1));
      if (thresholds != nullptr) thresholds[s] = static_cast<Word>(infinity) | sign;
      if (mask != nullptr) __builtin_memset(mask, 1, count);
      continue;
    }
    const int64_t room = count + kSelectPad;
    auto* const scratch = static_cast<Key*>(row.scratch);
    const Run<Key> run = make_keys<Word, Key>(weights, count, infinity, scratch);
    const Key threshold = select(run, k - 1, scratch + room, scratch + 2 * room);
    if (thresholds != nullptr) thresholds[s] = to_weight<Word, Key>(threshold, infinity);
    if (mask == nullptr) continue;
    const int64_t cut = cut_of_ties(run, threshold, k - count_below(run, threshold));
    write<Word, Key>(run, 0, cut, threshold, pruned, mask);
    write<Word, Key>(run, cut, count, threshold - 1, pruned, mask);
  }
}

}  // namespace

extern const MagnitudeKernels magnitude_kernels;
const MagnitudeKernels magnitude_kernels{select_row<uint16_t, int32_t>, select_row<uint32_t, int32_t>,
                                         select_row<uint64_t, int64_t>};

}  // namespace zoosparse::ZOOSPARSE_ISA
