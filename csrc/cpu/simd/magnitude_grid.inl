// Masks of one row for many counts of pruned weights at once.
//
// The keys of all wanted ranks are found together: a pivot parts the keys, the ranks go with the part that holds them,
// and so on until a part has no more keys than a sample. (Multiple quickselect: Chambers, "Partial Sorting", Algorithm
// 410, Communications of the ACM, 1971.) Keys equal to the pivot are a part of their own, so many of them are no
// burden; where a pivot parts badly, each rank is selected alone.
#pragma once

#include <algorithm>

#include "bits.h"
#include "cpu/simd/magnitude_select.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

constexpr int kPivotSample = 15;

// A key, how many keys of the row are below it, and how many are equal to it.
template <class Key>
struct Located {
  Key key;
  int64_t below, equals;
};

// Moves the keys below the pivot to `below` (which may be the run itself) and those above it to `above`, both padded.
template <class Key>
struct Parts {
  Run<Key> below, above;

  Parts(Run<Key> run, Key pivot, Key* below_to, Key* above_to) {
    int64_t smaller = 0, larger = 0, i = 0;
    for (; i < run.count; i += kLanes<Key>) {
      const auto keys = load<Keys<Key>>(run.keys + i);
      smaller += append<Key>(below_to + smaller, keys, keys < pivot);
      larger += append<Key>(above_to + larger, keys, keys > pivot);
    }
    below = {below_to, smaller};
    above = {above_to, larger - (i - run.count)};  // padding came last
    below.pad();
    above.pad();
  }
};

// The masks [first, last) of `order`, sorted by their counts k: their ranks are k - 1.
struct Wanted {
  const SelectGrid* grid;
  int64_t segment;
  const int64_t *first, *last;

  int64_t count(int64_t mask) const { return grid->k[mask * grid->k_stride + segment]; }
  // Those of the first ranks, below `rank`.
  Wanted below(int64_t rank) const {
    const auto* const end = std::partition_point(first, last, [&](int64_t mask) { return count(mask) <= rank; });
    return {grid, segment, first, end};
  }
};

// Calls emit(mask, Located) for every wanted mask. `run` is overwritten unless `below_to` is another place; of the
// row's keys, `before` are below the run's. `spare` has room for grid_scratch_words().
template <class Key, class Emit>
void locate(Run<Key> run, int64_t before, Wanted wanted, Key* below_to, Key* spare, const Emit& emit) {
  if (wanted.first == wanted.last) return;
  if (run.count <= kSample) {
    const auto all = ranked_sample(run, kSample);
    for (const int64_t* mask = wanted.first; mask < wanted.last; ++mask) {
      const Key key = all.at(wanted.count(*mask) - 1 - before);
      const int64_t below = count_below(run, key);
      emit(*mask, Located<Key>{key, before + below, count_below(run, Key(key + 1)) - below});
    }
    return;
  }
  const Key pivot = ranked_sample(run, kPivotSample).at(kPivotSample / 2);
  const Parts<Key> parts(run, pivot, below_to, spare);
  const int64_t above_from = before + run.count - parts.above.count;
  const Wanted below = wanted.below(before + parts.below.count), up_to_pivot = wanted.below(above_from);
  for (const int64_t* mask = below.last; mask < up_to_pivot.last; ++mask)
    emit(*mask, Located<Key>{pivot, before + parts.below.count, run.count - parts.below.count - parts.above.count});

  Key* const free = spare + parts.above.count + kSelectPad;
  const auto descend = [&](Run<Key> part, int64_t start, Wanted its) {
    if (part.count <= run.count / 4 * 3) return locate(part, start, its, part.keys, free, emit);
    for (const int64_t* mask = its.first; mask < its.last; ++mask) {
      const int64_t rank = its.count(*mask) - 1;
      const auto [key, among_equals] = select(part, rank - start, free, free + part.count + kSelectPad);
      emit(*mask, Located<Key>{key, rank - among_equals, count_below(part, Key(key + 1)) - count_below(part, key)});
    }
  };
  descend(parts.below, before, below);
  descend(parts.above, above_from, {wanted.grid, wanted.segment, up_to_pivot.last, wanted.last});
}

// Bits of 32 keys, the first one lowest: set where the key is above the limit.
template <class Key>
inline uint32_t bits_above(const Key* keys, Key limit) {
#if defined(__AVX2__)
  if constexpr (sizeof(Key) == 4) {
    const auto bound = _mm256_set1_epi32(limit);
    const auto above = [&](int i) { return _mm256_cmpgt_epi32(load<__m256i>(keys + i), bound); };
    // Packing works within halves of a register; the permutation puts the groups of four lanes into their order.
    const auto bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(above(0), above(8)), _mm256_packs_epi32(above(16), above(24)));
    const auto order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_permutevar8x32_epi32(bytes, order)));
  }
#endif
  uint32_t bits = 0;
  for (int byte = 0; byte < 4; ++byte) {
    uint64_t bools = 0;
    for (int j = 0; j < 8; ++j) bools |= uint64_t{keys[8 * byte + j] > limit} << 8 * j;
    bits |= uint32_t{to_bits(bools)} << 8 * byte;
  }
  return bits;
}

// Sets the bits of columns start + [first, last) where the key is above the limit; they are zero before.
template <class Key>
void set_bits(const Key* keys, int64_t start, int64_t first, int64_t last, Key limit, uint8_t* packed) {
  int64_t i = first;
  const auto one_by_one = [&](int64_t until) {
    for (; i < until; ++i) packed[(start + i) / 8] |= static_cast<uint8_t>((keys[i] > limit) << (start + i) % 8);
  };
  one_by_one(std::min(last, first + (8 - (start + first) % 8) % 8));
  for (; i + 32 <= last; i += 32) store(packed + (start + i) / 8, bits_above(keys + i, limit));
  one_by_one(last);
}

// The mask that prunes `k` weights of a segment, `last` being the last one to go.
template <class Key>
void set_mask(Run<Key> run, int64_t start, int64_t k, Located<Key> last, uint8_t* packed) {
  const int64_t ties = k - last.below;  // so many of the equals go
  const int64_t cut = ties == last.equals ? run.count : cut_of_ties(run, last.key, ties);
  set_bits(run.keys, start, 0, cut, last.key, packed);
  set_bits(run.keys, start, cut, run.count, Key(last.key - 1), packed);
}

template <class Word, class Key>
void select_grid(const SelectGrid& grid) {
  const auto infinity = static_cast<Key>(grid.infinity);
  const auto bytes = static_cast<size_t>(grid.segments[grid.segment_count] + 7) / 8;
  for (int64_t m = 0; m < grid.masks; ++m) __builtin_memset(grid.packed + m * grid.mask_stride, 0, bytes);
  for (int64_t s = 0; s < grid.segment_count; ++s) {
    const int64_t start = grid.segments[s], count = grid.segments[s + 1] - start, room = count + kSelectPad;
    auto* const scratch = static_cast<Key*>(grid.scratch);
    const Run<Key> run = make_keys<Word, Key>(static_cast<const Word*>(grid.weights) + start, count, infinity, scratch);
    Wanted wanted{&grid, s, grid.order, grid.order + grid.masks};
    for (int64_t m = 0; m < grid.masks; ++m) grid.order[m] = m;
    const auto by_count = [&](int64_t a, int64_t b) { return wanted.count(a) < wanted.count(b); };
    if (!std::is_sorted(grid.order, grid.order + grid.masks, by_count))
      std::sort(grid.order, grid.order + grid.masks, by_count);
    for (; wanted.first < wanted.last && wanted.count(*wanted.first) == 0; ++wanted.first)
      set_bits(run.keys, start, 0, count, Key(-1), grid.packed + *wanted.first * grid.mask_stride);
    locate(run, 0, wanted, scratch + room, scratch + 2 * room, [&](int64_t mask, Located<Key> last) {
      set_mask(run, start, wanted.count(mask), last, grid.packed + mask * grid.mask_stride);
    });
  }
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
