// Selection in rows too long for the registers of a block: one pass through global memory a digit, many blocks a row.
// Where no tie needs a decision, the passes over the columns end at once; the host never waits to know.
#pragma once

#include "common/select.h"
#include "cuda/collective.cuh"
#include "cuda/magnitude_tasks.cuh"

namespace zoosparse::cuda {
namespace {

constexpr int kLongThreads = 256;
constexpr int kLongItems = 16;  // of a thread and turn: loads in flight
constexpr int kColumnBitsOfLongRows = 31;
constexpr int64_t kMostTasksAtOnce = 1024;  // bounds the scratch memory to some 8 MB

// In global memory, one a task.
struct Progress {
  Search<uint64_t> by_key;
  Search<uint32_t> by_column;
  __host__ __device__ bool knows_columns() const { return !some_ties_stay(by_key.rank, by_key.matching); }
};

struct LongScratch {
  Progress* progress;  // [tasks]
  uint32_t* bins;      // [tasks, kMostBins], all 0 between the digits
};

template <class Word>
__global__ void __launch_bounds__(kLongThreads)
    start_long(SelectRows rows, SegmentBatch batch, int64_t first_task, LongScratch scratch) {
  const Task<Word> task(rows, batch, first_task + blockIdx.x);
  for (int bin = static_cast<int>(threadIdx.x); bin < kMostBins; bin += kLongThreads)
    scratch.bins[int64_t{blockIdx.x} * kMostBins + bin] = 0;
  if (threadIdx.x == 0) scratch.progress[blockIdx.x] = {{0, task.k - 1, 0}, {0, 0, 0}};
}

// Calls body(column, whether it is one) for the block's share of the columns, in all lanes of a warp alike.
template <class Body>
__device__ void for_columns(uint32_t width, const Body& body) {
  constexpr uint32_t turn = kLongThreads * kLongItems;
  for (int64_t first = int64_t{blockIdx.x} * turn; first < width; first += int64_t{gridDim.x} * turn)
#pragma unroll
    for (int i = 0; i < kLongItems; ++i) {
      const int64_t column = first + i * kLongThreads + threadIdx.x;
      body(static_cast<uint32_t>(column), column < width);
    }
}

// Adds the block's share of the next digit's histogram to that of the task, blockIdx.y.
template <class Word, bool by_column>
__global__ void __launch_bounds__(kLongThreads)
    count_long(SelectRows rows, SegmentBatch batch, int64_t first_task, Digit digit, LongScratch scratch) {
  __shared__ uint32_t bins[kMostBins];
  const Task<Word> task(rows, batch, first_task + blockIdx.y);
  const Progress progress = scratch.progress[blockIdx.y];
  if (task.k == 0 || (by_column && progress.knows_columns())) return;
  for (int bin = static_cast<int>(threadIdx.x); bin < digit.bins(); bin += kLongThreads) bins[bin] = 0;
  __syncthreads();
  for_columns(task.width, [&](uint32_t column, bool exists) {
    const uint64_t key = exists ? magnitude_key<KeyOf<Word>>(task.weights[column], task.infinity) : ~uint64_t{0};
    if constexpr (by_column)
      count_in_bins(bins, key == progress.by_key.prefix && progress.by_column.matches(column, digit),
                    bin_of(column, digit));
    else
      count_in_bins(bins, progress.by_key.matches(key, digit), bin_of(key, digit));
  });
  __syncthreads();
  uint32_t* const sums = scratch.bins + int64_t{blockIdx.y} * kMostBins;
  for (int bin = static_cast<int>(threadIdx.x); bin < digit.bins(); bin += kLongThreads)
    if (bins[bin] != 0) atomicAdd(sums + bin, bins[bin]);
}

// Chooses the digit of the task, blockIdx.x, and empties its histogram.
template <class Word, bool by_column>
__global__ void __launch_bounds__(kLongThreads)
    choose_long(SelectRows rows, SegmentBatch batch, int64_t first_task, Digit digit, LongScratch scratch) {
  __shared__ uint32_t warp_sums[kWarpSize];
  const Task<Word> task(rows, batch, first_task + blockIdx.x);
  Progress progress = scratch.progress[blockIdx.x];
  if (task.k == 0 || (by_column && progress.knows_columns())) return;
  uint32_t* const bins = scratch.bins + int64_t{blockIdx.x} * kMostBins;
  constexpr int each = kMostBins / kLongThreads;
  const int first = static_cast<int>(threadIdx.x) * each, last = first + each;
  const uint32_t before = sum_before<kLongThreads>(sum_of_bins(bins, first, last), warp_sums);
  bool chosen;
  if constexpr (by_column) {
    chosen = choose_digit(bins, first, last, before, digit, progress.by_column);
  } else {
    chosen = choose_digit(bins, first, last, before, digit, progress.by_key);
    progress.by_column = {0, progress.by_key.rank, progress.by_key.matching};
  }
  if (chosen) scratch.progress[blockIdx.x] = progress;
  for (int bin = first; bin < last; ++bin) bins[bin] = 0;
}

template <class Word>
__global__ void __launch_bounds__(kLongThreads)
    write_long(SelectRows rows, SegmentBatch batch, int64_t first_task, LongScratch scratch) {
  using Key = KeyOf<Word>;
  const Task<Word> task(rows, batch, first_task + blockIdx.y);
  const uint32_t thread = blockIdx.x * kLongThreads + threadIdx.x;
  if (task.finish_if_nothing_goes(thread, gridDim.x * kLongThreads)) return;
  const Progress progress = scratch.progress[blockIdx.y];
  const Threshold<Key> threshold{static_cast<Key>(progress.by_key.prefix),
                                 progress.knows_columns() ? kAllColumns : progress.by_column.prefix};
  if (task.threshold != nullptr && thread == 0) *task.threshold = weight_of_key<Word>(threshold.key, task.infinity);
  if (task.mask == nullptr) return;
  for_columns(task.width, [&](uint32_t column, bool exists) {
    if (exists) task.write(column, threshold.prunes(magnitude_key<Key>(task.weights[column], task.infinity), column));
  });
}

}  // namespace
}  // namespace zoosparse::cuda
