// Masks of one row for many counts of pruned weights at once.
#pragma once

#include <algorithm>
#include <type_traits>

#include "common/bits.h"
#include "cpu/simd/magnitude_locate.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

#if !defined(__AVX512F__) && !defined(ZOOSPARSE_EMULATE_AVX512)
// Packing works within halves of AVX2's registers: permutations put the groups of lanes into their order.
template <class Key>
inline uint32_t bits_above(const Key* keys, Key limit) {
#if defined(__AVX2__)
  if constexpr (sizeof(Key) == 4) {
    const auto bound = _mm256_set1_epi32(limit);
    const auto above = [&](int i) { return _mm256_cmpgt_epi32(load<__m256i>(keys + i), bound); };
    const auto bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(above(0), above(8)), _mm256_packs_epi32(above(16), above(24)));
    const auto order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_permutevar8x32_epi32(bytes, order)));
  }
  if constexpr (sizeof(Key) == 2) {
    const auto bound = _mm256_set1_epi16(limit);
    const auto above = [&](int i) { return _mm256_cmpgt_epi16(load<__m256i>(keys + i), bound); };
    const auto bytes = _mm256_packs_epi16(above(0), above(16));
    return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_permute4x64_epi64(bytes, 0b11011000)));
  }
#elif defined(__SSE2__)
  if constexpr (sizeof(Key) <= 4) {
    const auto words = [&](int i) {  // of eight keys
      if constexpr (sizeof(Key) == 2)
        return _mm_cmpgt_epi16(load<__m128i>(keys + i), _mm_set1_epi16(limit));
      else
        return _mm_packs_epi32(_mm_cmpgt_epi32(load<__m128i>(keys + i), _mm_set1_epi32(limit)),
                               _mm_cmpgt_epi32(load<__m128i>(keys + i + 4), _mm_set1_epi32(limit)));
    };
    const auto bits = [&](int i) {  // of sixteen keys
      return static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(words(i), words(i + 8))));
    };
    return bits(0) | bits(16) << 16;
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
#endif

// Bits of 32 keys, or buckets, the first one lowest: set where it is above the limit.
template <class Key>
inline void store_bits_above(const Key* keys, Key limit, uint8_t* to) {
#if defined(__AVX512F__) || defined(ZOOSPARSE_EMULATE_AVX512)
  if constexpr (sizeof(Key) == 2) {
    const auto next = _mm512_set1_epi16(static_cast<int16_t>(limit + 1));  // SIMDe compares these by >=, not by >
    store(to, static_cast<uint32_t>(_mm512_cmpge_epi16_mask(load<__m512i>(keys), next)));
  } else {
    // One vector's at a time, straight from its mask register: two masks put together in a general one came out wrong
    // from GCC 12 with the thread sanitizer, which kept 16 bits of a mask and read 32.
    using Bits = std::conditional_t<kLanes<Key> == 16, uint16_t, uint8_t>;
    for (int i = 0; i < 32; i += kLanes<Key>)
      store(to + i / 8, static_cast<Bits>(above<Key>(load<Keys<Key>>(keys + i), Keys<Key>{} + limit)));
  }
#else
  store(to, bits_above(keys, limit));
#endif
}

// Sets the bits of columns start + [first, last) where the key is above the limit; bits of later columns may become
// zero. Reads up to 32 keys behind the last one.
template <class Key>
void set_bits(const Key* keys, int64_t start, int64_t first, int64_t last, Key limit, uint8_t* packed) {
  const auto bits_of = [&](int64_t i, int64_t count) {  // of fewer than 32
    uint8_t bytes[4];
    store_bits_above(keys + i, limit, bytes);
    return load<uint32_t>(bytes) & ((uint32_t{1} << count) - 1);
  };
  int64_t i = first;
  uint8_t* to = packed + (start + first) / 8;
  if (const int64_t bit = (start + first) % 8; bit != 0 && first < last) {
    const int64_t count = std::min(last - first, 8 - bit);
    *to = static_cast<uint8_t>(*to | bits_of(i, count) << bit);
    i += count, ++to;
  }
  for (; i + 64 <= last; i += 64, to += 8) {
    store_bits_above(keys + i, limit, to);
    store_bits_above(keys + i + 32, limit, to + 4);
  }
  if (i + 32 <= last) store_bits_above(keys + i, limit, to), i += 32, to += 4;
  if (i == last) return;
  for (uint32_t bits = bits_of(i, last - i); i < last; i += 8, bits >>= 8) *to++ = static_cast<uint8_t>(bits);
}

// Writes the mask of a rank of a segment: that which prunes all weights up to this rank.
template <class Key>
struct Masks {
  Run<Key> run;
  int64_t start;  // the segment's first column
  Key infinity;
  const int64_t *ranks, *order;  // mask order[i] is that of ranks[i]
  uint8_t* packed;
  int64_t stride;

  uint8_t* of(const int64_t* rank) const { return packed + order[rank - ranks] * stride; }

  // `last` is the last key to go.
  void by_key(const int64_t* rank, Located<Key> last) const {
    const int64_t cut = cut_of(run, *rank + 1, last);
    set_bits(run.keys, start, 0, cut, last.key, of(rank));
    set_bits(run.keys, start, cut, run.count, Key(last.key - 1), of(rank));
  }

  // The rank is in a bucket of equal keys.
  void by_bucket_of_equals(const int64_t* rank, const Members& members) const {
    const auto bucket = static_cast<int16_t>(members.bucket);
    const int32_t* const last = members.first + (*rank - members.below);
    const int64_t cut = last + 1 == members.last ? run.count : *last + 1;
    set_bits(members.buckets, start, 0, cut, bucket, of(rank));
    set_bits(members.buckets, start, cut, run.count, static_cast<int16_t>(bucket - 1), of(rank));
  }

  // The rank is in a bucket whose members are ranked.
  void by_bucket(const int64_t* rank, const Members& members, const Key* ranks_of_members) const {
    uint8_t* const to = of(rank);
    set_bits(members.buckets, start, 0, run.count, static_cast<int16_t>(members.bucket), to);
    const auto last = static_cast<Key>(*rank - members.below);
    for (const int32_t* column = members.first; column < members.last; ++column) {
      const int64_t bit = start + *column;
      to[bit / 8] = static_cast<uint8_t>(to[bit / 8] | (*ranks_of_members++ > last) << bit % 8);
    }
  }

  // All keys are ranked.
  void by_rank(const int64_t* rank, const Key* all) const {
    set_bits(all, start, 0, run.count, static_cast<Key>(*rank), of(rank));
  }
};

template <class Word, class Key>
void select_grid(const SelectGrid& grid) {
  const auto infinity = static_cast<Key>(grid.infinity);
  for (int64_t s = 0; s < grid.segment_count; ++s) {
    const int64_t start = grid.segments[s], count = grid.segments[s + 1] - start, room = select_room(count);
    auto* const scratch = static_cast<Key*>(grid.scratch);
    const Run<Key> run = make_keys<Word, Key>(static_cast<const Word*>(grid.weights) + start, count, infinity, scratch);

    int64_t *const order = grid.order, *const ranks = grid.order + grid.masks;
    const auto k = [&](int64_t mask) { return grid.k[mask * grid.k_stride + s]; };
    const auto by_count = [&](int64_t a, int64_t b) { return k(a) < k(b); };
    for (int64_t m = 0; m < grid.masks; ++m) order[m] = m;
    if (!std::is_sorted(order, order + grid.masks, by_count)) std::sort(order, order + grid.masks, by_count);
    for (int64_t m = 0; m < grid.masks; ++m) ranks[m] = k(order[m]) - 1;

    const Masks<Key> masks{run, start, infinity, ranks, order, grid.packed, grid.mask_stride};
    const int64_t *first = ranks, *const last = ranks + grid.masks;
    for (; first < last && *first < 0; ++first) set_bits(run.keys, start, 0, count, Key(-1), masks.of(first));
    if (last - first > kSelectable && count <= kRankable) {
      const auto all = ranked(run);
      for (; first < last; ++first) masks.by_rank(first, all.ranks);
    } else {
      locate(Part<Key>{run, 0, Key(0), Key(infinity + 2), first, last}, Rooms<Key>(scratch + room, room), 0, masks);
    }
  }
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
