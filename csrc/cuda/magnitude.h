// Launcher of selection by magnitude. Nothing is launched for an empty matrix; the caller looks for launch errors.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace zoosparse::cuda {

// Rows and what is wanted of them. Weights are seen as their bits; see select.h for their order.
struct SelectRows {
  void* weights;     // [n, p] words of the storage format; written only if `prune`
  uint8_t* mask;     // [n, p] 0 = pruned, 1 = kept; or null
  void* thresholds;  // [n, s] words: magnitude of the k-th smallest, -inf for k = 0; or null
  const int64_t* k;  // [n, s]; what lies outside 0 … width of the segment counts as the nearer end
  int64_t n, p, s;   // p < 2^31
  int64_t infinity;  // bits of infinity in the storage format
  int word_size;     // bytes: 2, 4 or 8
  bool prune;        // set pruned weights to +0.0
};

// Bytes of device memory that a call needs for its long segments; 0 where there are none.
int64_t select_scratch_bytes(const SelectRows& rows, const int64_t* segments);

// `segments` [s + 1] are rising offsets of columns from 0 to p, in the memory of the host.
void launch_select(const SelectRows& rows, const int64_t* segments, void* scratch, cudaStream_t stream);

// Many masks of rows of one segment, as bits. Of `rows`, mask and thresholds are not used, and k is [masks, n]; packed
// [masks, n, ceil(p / 8)], bit j of byte i = column 8 i + j, 1 = kept; bits beyond p are 0.
bool can_select_masks(const SelectRows& rows);  // rows longer than a block's registers take a selection a mask
void launch_select_masks(const SelectRows& rows, int64_t masks, uint8_t* packed, cudaStream_t stream);

}  // namespace zoosparse::cuda
