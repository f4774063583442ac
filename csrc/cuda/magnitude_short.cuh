// Selection in rows whose keys fit the registers of a warp or of a block: each weight is read once.
#pragma once

#include "common/select.h"
#include "cuda/collective.cuh"
#include "cuda/magnitude_tasks.cuh"

namespace zoosparse::cuda {
namespace {

// ---- A warp per row: bit by bit, counting in registers; neither shared memory nor barriers ------------------------

// `below(limit)`: how many of the lane's values are below it.
template <class Value, class Below>
__device__ Value find_bits(int bits, uint32_t rank, const Below& below) {
  Value found = 0;
#pragma unroll 1
  for (int bit = bits - 1; bit >= 0; --bit) {
    const uint32_t count = __reduce_add_sync(kAllLanes, below(trial(found, bit)));
    found = choose_bit(found, bit, count, rank);
  }
  return found;
}

template <class Key, int kKeys>
__device__ Threshold<Key> select_in_warp(const Key (&keys)[kKeys], int key_bits, uint32_t rank) {
  static_assert(kKeys <= 32);
  const auto keys_below = [&](Key limit) {
    uint32_t count = 0;
#pragma unroll
    for (int i = 0; i < kKeys; ++i) count += keys[i] < limit;
    return count;
  };
  const Key key = find_bits<Key>(key_bits, rank, keys_below);
  rank -= __reduce_add_sync(kAllLanes, keys_below(key));
  uint32_t tied = 0;  // bit i: the lane's key i, in column 32 i + lane
#pragma unroll
  for (int i = 0; i < kKeys; ++i) tied |= static_cast<uint32_t>(keys[i] == key) << i;
  if (!some_ties_stay(rank, __reduce_add_sync(kAllLanes, static_cast<uint32_t>(__popc(tied)))))
    return {key, kAllColumns};
  const uint32_t lane = static_cast<uint32_t>(lane_of_thread());
  const auto ties_below = [=](uint32_t limit) {
    const uint32_t columns = columns_below(limit, lane, kWarpSize);
    return static_cast<uint32_t>(__popc(columns < 32 ? tied & ((1u << columns) - 1) : tied));
  };
  return {key, find_bits<uint32_t>(bits_of_columns(kKeys * kWarpSize), rank, ties_below)};
}

constexpr int kWarpsOfBlock = 8;

template <class Word, int kKeys>
__global__ void __launch_bounds__(kWarpsOfBlock* kWarpSize, kKeys * sizeof(KeyOf<Word>) > 128 ? 1 : 3)
    select_by_warps(SelectRows rows, SegmentBatch batch) {
  using Key = KeyOf<Word>;
  const int64_t stride = int64_t{gridDim.x} * kWarpsOfBlock;
  const int lane = lane_of_thread();
  for (int64_t t = int64_t{blockIdx.x} * kWarpsOfBlock + threadIdx.x / kWarpSize; t < rows.n * batch.count;
       t += stride) {
    const Task<Word> task(rows, batch, t);
    if (task.finish_if_nothing_goes(lane, kWarpSize)) continue;
    Key keys[kKeys];
    task.template load<kWarpSize>(lane, keys);
    const Threshold<Key> threshold = select_in_warp(keys, kKeyBits<Word>, task.k - 1);
    task.template store<kWarpSize>(lane, keys, threshold);
  }
}

// ---- A block per row: digit by digit, with a histogram in shared memory; the last few keys in one warp --------------

template <class Key>
constexpr int kMostGathered = 64 / sizeof(Key) * kWarpSize;

// What registers are to be shared out for.
template <class Word, int kThreads>
constexpr int kBlocksAtOnce = kThreads >= 1024    ? 1
                              : sizeof(Word) == 8 ? 3
                                                  : 4;

template <class Key>
struct BlockMemory {
  uint32_t bins[kMostBins];
  uint32_t warp_sums[kWarpSize];
  // How many are gathered. Not beside a search: nvcc reads all 16 bytes around one, which racecheck calls a race.
  uint32_t count;
  Key gathered[kMostGathered<Key>];
  Search<Key> by_key;
  Search<uint32_t> by_column;
};

// The histogram of a digit: `value(i)` of the thread's items count where `active(i)`. Ends with a barrier.
template <int kThreads, int kItems, class Memory, class ValueOf, class IsActive>
__device__ void count_digit(Digit digit, Memory& memory, const ValueOf& value, const IsActive& active) {
  for (int bin = static_cast<int>(threadIdx.x); bin < digit.bins(); bin += kThreads) memory.bins[bin] = 0;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kItems; ++i) count_in_bins(memory.bins, active(i), bin_of(value(i), digit));
  __syncthreads();
}

// The bins of a thread, and how many elements are in those before them.
struct BinsOfThread {
  int first, last;
  uint32_t before;
};

// Contains a barrier.
template <int kThreads, class Memory>
__device__ BinsOfThread bins_of_thread(Digit digit, Memory& memory) {
  const int each = (digit.bins() + kThreads - 1) / kThreads, first = static_cast<int>(threadIdx.x) * each;
  const int last = first + each < digit.bins() ? first + each : digit.bins();
  return {first, last, sum_before<kThreads>(sum_of_bins(memory.bins, first, last), memory.warp_sums)};
}

// The search after one more digit. Ends with a barrier.
template <class Value, class Memory>
__device__ Search<Value> after_digit(Search<Value> search, Digit digit, const BinsOfThread& bins, const Memory& memory,
                                     Search<Value>& place) {
  if (choose_digit(memory.bins, bins.first, bins.last, bins.before, digit, search)) place = search;
  __syncthreads();
  return place;
}

template <int kThreads, int kItems, class Value, class Memory, class ValueOf, class IsActive>
__device__ Search<Value> next_digit(Search<Value> search, Digit digit, Memory& memory, Search<Value>& place,
                                    const ValueOf& value, const IsActive& active) {
  count_digit<kThreads, kItems>(digit, memory, value,
                                [&](int i) { return active(i) && search.matches(value(i), digit); });
  return after_digit(search, digit, bins_of_thread<kThreads>(digit, memory), memory, place);
}

// The end of a search among `search.matching` keys, at most kKeys a lane, of which `bits` bits are unknown. For a warp.
template <int kKeys, class Key>
__device__ Search<Key> search_in_warp(const Key* gathered, Search<Key> search, int bits) {
  Key rest[kKeys];
#pragma unroll
  for (int i = 0; i < kKeys; ++i) {
    const uint32_t at = static_cast<uint32_t>(i * kWarpSize + lane_of_thread());
    rest[i] = at < search.matching ? gathered[at] & ((Key(1) << bits) - 1) : ~Key(0);
  }
  const auto rests_below = [&](Key limit) {
    uint32_t count = 0;
#pragma unroll
    for (int i = 0; i < kKeys; ++i) count += rest[i] < limit;
    return count;
  };
  const Key found = find_bits<Key>(bits, search.rank, rests_below);
  const uint32_t below = __reduce_add_sync(kAllLanes, rests_below(found));
  const uint32_t with_ties = __reduce_add_sync(kAllLanes, rests_below(found + 1));
  return {search.prefix << bits | found, search.rank - below, with_ties - below};
}

// The end of a search with at most kMostGathered keys left, whose bits from `digit` up are known: they are gathered for
// one warp, which needs no more barriers. Ends with a barrier.
template <class Key, int kKeys>
__device__ Search<Key> search_gathered(const Key (&keys)[kKeys], Search<Key> search, Digit digit,
                                       BlockMemory<Key>& memory) {
  if (threadIdx.x == 0) memory.count = 0;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kKeys; ++i)
    if (keys[i] >> digit.shift == search.prefix) memory.gathered[atomicAdd(&memory.count, 1u)] = keys[i];
  __syncthreads();
  if (threadIdx.x < kWarpSize) {
    const Search<Key> found = search.matching <= 4 * kWarpSize ? search_in_warp<4>(memory.gathered, search, digit.shift)
                                                               : search_in_warp<kMostGathered<Key> / kWarpSize>(
                                                                     memory.gathered, search, digit.shift);
    if (threadIdx.x == 0) memory.by_key = found;
  }
  __syncthreads();
  return memory.by_key;
}

// What is pruned, from the search for the key: columns decide where some ties of the threshold stay.
template <int kThreads, class Key, int kKeys>
__device__ Threshold<Key> with_ties(const Key (&keys)[kKeys], const Search<Key>& by_key, BlockMemory<Key>& memory) {
  if (!some_ties_stay(by_key.rank, by_key.matching)) return {by_key.prefix, kAllColumns};
  constexpr int kColumnBits = bits_of_columns(kKeys * kThreads);
  Search<uint32_t> by_column{0, by_key.rank, by_key.matching};
#pragma unroll 1
  for (int d = 0; d < digits_of(kColumnBits); ++d)
    by_column = next_digit<kThreads, kKeys>(
        by_column, digit_of(kColumnBits, d), memory, memory.by_column,
        [](int i) { return static_cast<uint32_t>(i * kThreads) + threadIdx.x; },
        [&](int i) { return keys[i] == by_key.prefix; });
  return {by_key.prefix, by_column.prefix};
}

template <int kThreads, class Word, class Key, int kKeys>
__device__ Threshold<Key> select_in_block(const Key (&keys)[kKeys], uint32_t rank, BlockMemory<Key>& memory) {
  Search<Key> by_key{0, rank, 0};
#pragma unroll 1
  for (int d = 0; d < digits_of(kKeyBits<Word>); ++d) {
    const Digit digit = digit_of(kKeyBits<Word>, d);
    by_key = next_digit<kThreads, kKeys>(
        by_key, digit, memory, memory.by_key, [&](int i) { return keys[i]; }, [](int) { return true; });
    if (digit.shift == 0 || by_key.matching > kMostGathered<Key>) continue;
    by_key = search_gathered(keys, by_key, digit, memory);
    break;
  }
  return with_ties<kThreads>(keys, by_key, memory);
}

template <class Word, int kThreads, int kKeys>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce<Word, kThreads>)
    select_by_blocks(SelectRows rows, SegmentBatch batch) {
  using Key = KeyOf<Word>;
  __shared__ BlockMemory<Key> memory;
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t t = blockIdx.x; t < rows.n * batch.count; t += gridDim.x) {
    const Task<Word> task(rows, batch, t);
    if (task.finish_if_nothing_goes(thread, kThreads)) continue;
    Key keys[kKeys];
    task.template load<kThreads>(thread, keys);
    const Threshold<Key> threshold = select_in_block<kThreads, Word>(keys, task.k - 1, memory);
    task.template store<kThreads>(thread, keys, threshold);
  }
}

}  // namespace
}  // namespace zoosparse::cuda
