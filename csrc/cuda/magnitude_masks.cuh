// Many masks of the same rows, as bits: a block reads a row once, and its first histogram serves all masks.
#pragma once

#include "cuda/magnitude_short.cuh"

namespace zoosparse::cuda {
namespace {

// Bit j of byte i says whether column 8 i + j stays.
template <int kThreads, class Key, int kKeys>
__device__ void write_bits(const Key (&keys)[kKeys], bool any, const Threshold<Key>& found, uint32_t width,
                           uint8_t* packed) {
  const uint32_t lane = static_cast<uint32_t>(lane_of_thread()), bytes = (width + 7) / 8;
#pragma unroll
  for (int i = 0; i < kKeys; ++i) {
    const uint32_t column = static_cast<uint32_t>(i * kThreads) + threadIdx.x;
    const uint32_t bits = __ballot_sync(kAllLanes, column < width && !(any && found.prunes(keys[i], column)));
    const uint32_t byte = (column - lane) / 8 + lane;
    if (lane < kWarpSize / 8 && byte < bytes) packed[byte] = static_cast<uint8_t>(bits >> (8 * lane));
  }
}

// Rows of one segment; k is [masks, n], packed [masks, n, bytes].
template <class Word, int kThreads, int kKeys>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce<Word, kThreads>)
    select_masks(SelectRows rows, SegmentBatch batch, int64_t masks, uint8_t* packed) {
  using Key = KeyOf<Word>;
  __shared__ BlockMemory<Key> memory;
  constexpr Digit digit = digit_of(kKeyBits<Word>, 0);
  const int64_t bytes = (rows.p + 7) / 8;
  for (int64_t row = blockIdx.x; row < rows.n; row += gridDim.x) {
    const Task<Word> task(rows, batch, row);
    Key keys[kKeys];
    task.template load<kThreads>(static_cast<int>(threadIdx.x), keys);
    BinsOfThread bins{};
    bool counted = false;
    for (int64_t mask = 0; mask < masks; ++mask) {
      const int64_t at = mask * rows.n + row;
      const uint32_t k = Task<Word>::bounded(rows.k[at], task.width);
      Threshold<Key> found{};
      if (k > 0) {
        if (!counted) {
          count_digit<kThreads, kKeys>(digit, memory, [&](int i) { return keys[i]; }, [](int) { return true; });
          bins = bins_of_thread<kThreads>(digit, memory);
          counted = true;
        }
        const Search<Key> by_key = after_digit(Search<Key>{0, k - 1, 0}, digit, bins, memory, memory.by_key);
        if (by_key.matching <= kMostGathered<Key>) {
          const Search<Key> last = search_gathered(keys, by_key, digit, memory);
          counted = !some_ties_stay(last.rank, last.matching);
          found = with_ties<kThreads>(keys, last, memory);
        } else {
          counted = false;
          found = select_in_block<kThreads, Word>(keys, k - 1, memory);
        }
      }
      write_bits<kThreads>(keys, k > 0, found, task.width, packed + at * bytes);
      __syncthreads();  // the next search writes what this one has read
    }
  }
}

}  // namespace
}  // namespace zoosparse::cuda
