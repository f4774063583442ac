// Exact selection by magnitude within one row.
#pragma once

#include <cstdint>

#include "cpu/simd/level.h"

namespace zoosparse {

// One row and what is wanted of it. Weights are seen as their bits; the key of a weight is the bits of |w|, which order
// as magnitudes do, with every NaN replaced by `infinity` + 1.
struct SelectRow {
  void* weights;            // [P] storage words; written only if `prune`
  uint8_t* mask;            // [P] 0 = pruned, 1 = kept; or null
  void* thresholds;         // [S] storage words: magnitude of the k-th smallest, -inf for k = 0; or null
  const int64_t* segments;  // [S + 1] offsets of columns
  const int64_t* k;         // [S], 0 <= k <= width of the segment
  int64_t segment_count;
  int64_t infinity;  // bits of infinity in the storage format
  bool prune;        // set pruned weights to +0.0
  void* scratch;     // select_scratch_words(P) words of at least 4 bytes, or of 8 for float64
};

// One row and the masks that are wanted of it.
struct SelectGrid {
  const void* weights;      // [P] storage words
  uint8_t* packed;          // mask m: [(P + 7) / 8] from m * mask_stride on
  const int64_t* segments;  // [S + 1] offsets of columns
  const int64_t* k;         // of mask m: [S] from m * k_stride on, 0 <= k <= width of the segment
  int64_t masks, mask_stride, k_stride, segment_count;
  int64_t infinity;  // bits of infinity in the storage format
  int64_t* order;    // [2 * masks], overwritten
  void* scratch;     // grid_scratch_words(P) words of at least 4 bytes, or of 8 for float64
};

// Room for a row's keys and four of the widest vectors, in whole lines of the cache.
constexpr int64_t kSelectPad = 4 * 64 / 4;
constexpr int64_t select_room(int64_t p) { return (p + kSelectPad + 15) / 16 * 16; }

// The keys, and two copies of those that are still in question.
constexpr int64_t select_scratch_words(int64_t p) { return 3 * select_room(p); }

// The keys, the buckets of each, and in two divisions those that are still in question with their columns.
constexpr int64_t grid_scratch_words(int64_t p) { return 7 * select_room(p); }

struct MagnitudeKernels {
  void (*select16)(const SelectRow&);  // float16, bfloat16
  void (*select32)(const SelectRow&);  // float32
  void (*select64)(const SelectRow&);  // float64
  void (*grid16)(const SelectGrid&);
  void (*grid32)(const SelectGrid&);
  void (*grid64)(const SelectGrid&);
};

}  // namespace zoosparse

ZOOSPARSE_KERNELS(MagnitudeKernels, magnitude_kernels)
