// Mask loops on one row. Eight columns at a time as one 64-bit word of bool bytes or one byte of bits; with AVX2,
// packing takes 32.
#include "cpu/simd/masks.h"

#include <type_traits>

#include "common/bits.h"
#include "cpu/simd/vector.h"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

void pack(const uint8_t* mask, int64_t p, uint8_t* packed) {
  int64_t column = 0;
#if defined(__AVX2__)
  for (; column + 32 <= p; column += 32) {
    const auto pruned = _mm256_cmpeq_epi8(load<__m256i>(mask + column), _mm256_setzero_si256());
    store(packed + column / 8, ~_mm256_movemask_epi8(pruned));
  }
#endif
  for (; column + 8 <= p; column += 8) packed[column / 8] = to_bits(to_ones(load<uint64_t>(mask + column)));
  if (column < p) {
    uint64_t rest = 0;
    __builtin_memcpy(&rest, mask + column, p - column);
    packed[column / 8] = to_bits(to_ones(rest));
  }
}

void unpack(const uint8_t* packed, int64_t p, uint8_t* mask) {
  int64_t column = 0;
#if defined(__AVX2__)
  const auto byte_of_lane = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const auto bit_of_lane = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
  for (; column + 32 <= p; column += 32) {
    const auto bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(load<int32_t>(packed + column / 8)), byte_of_lane);
    const auto set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit_of_lane), bit_of_lane);
    store(mask + column, _mm256_and_si256(set, _mm256_set1_epi8(1)));
  }
#endif
  for (; column + 8 <= p; column += 8) store(mask + column, to_bools(packed[column / 8]));
  if (column < p) {
    const uint64_t rest = to_bools(packed[column / 8]);
    __builtin_memcpy(mask + column, &rest, p - column);
  }
}

// keep[j] = all ones where bools' byte j is not 0, all zeros where it is.
template <class Word>
inline Vector<Word, 8> widen(uint64_t bools) {
  const auto kept = __builtin_bit_cast(Vector<uint8_t, 8>, bools) != 0;  // bytes of -1 or 0, whose sign is widened
  return __builtin_bit_cast(Vector<Word, 8>, __builtin_convertvector(kept, Vector<std::make_signed_t<Word>, 8>));
}

// `bools(column)` gives the mask of eight columns from `column` on.
template <class Word, class Bools>
inline void keep_where(Word* weights, int64_t p, Bools bools) {
  int64_t column = 0;
  for (; column + 8 <= p; column += 8)
    store(weights + column, load<Vector<Word, 8>>(weights + column) & widen<Word>(bools(column)));
  if (column < p) {
    const uint64_t rest = bools(column);
    for (int j = 0; column + j < p; ++j)
      if ((rest >> (8 * j) & 0xff) == 0) weights[column + j] = 0;
  }
}

template <class Bools>
inline void apply_any(void* weights, int size, int64_t p, Bools bools) {
  switch (size) {
    case 1:
      return keep_where(static_cast<uint8_t*>(weights), p, bools);
    case 2:
      return keep_where(static_cast<uint16_t*>(weights), p, bools);
    case 4:
      return keep_where(static_cast<uint32_t*>(weights), p, bools);
    default:
      return keep_where(static_cast<uint64_t*>(weights), p, bools);
  }
}

void apply(void* weights, int size, const uint8_t* mask, int64_t p) {
  apply_any(weights, size, p, [=](int64_t column) {
    if (column + 8 <= p) return load<uint64_t>(mask + column);
    uint64_t rest = 0;
    __builtin_memcpy(&rest, mask + column, p - column);
    return rest;
  });
}

void apply_packed(void* weights, int size, const uint8_t* packed, int64_t p) {
  apply_any(weights, size, p, [=](int64_t column) { return to_bools(packed[column / 8]); });
}

}  // namespace

extern const MaskKernels mask_kernels;
const MaskKernels mask_kernels{pack, unpack, apply, apply_packed};

}  // namespace zoosparse::ZOOSPARSE_ISA
