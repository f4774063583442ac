// Exact selection by magnitude on the GPU: launches. The longer a segment, the more threads share it: a warp up to
// 1,024 columns, a block up to 16,384, many blocks and several passes beyond. All of them find the same element, the
// one of rank k - 1 in the order of (magnitude, column), so results do not depend on which of them ran.
#include "cuda/magnitude.h"

#include <algorithm>

#include "cuda/magnitude_long.cuh"
#include "cuda/magnitude_masks.cuh"
#include "cuda/magnitude_short.cuh"
#include "cuda/magnitude_tasks.cuh"

namespace zoosparse::cuda {
namespace {

constexpr int64_t kMostBlocks = int64_t{1} << 30;
constexpr int64_t kMostBlocksOfLongRow = 256;

unsigned blocks_for(int64_t tasks, int64_t tasks_of_block) {
  return static_cast<unsigned>(std::min(kMostBlocks, (tasks + tasks_of_block - 1) / tasks_of_block));
}

// How segments up to a width are searched.
struct Method {
  int64_t most_columns;
  void (*launch)(const SelectRows&, const SegmentBatch&, void* scratch, cudaStream_t);
};

template <class Word, int kKeys>
void by_warps(const SelectRows& rows, const SegmentBatch& batch, void*, cudaStream_t stream) {
  const unsigned blocks = blocks_for(rows.n * batch.count, kWarpsOfBlock);
  select_by_warps<Word, kKeys><<<blocks, kWarpsOfBlock * kWarpSize, 0, stream>>>(rows, batch);
}

template <class Word, int kThreads, int kKeys>
void by_blocks(const SelectRows& rows, const SegmentBatch& batch, void*, cudaStream_t stream) {
  select_by_blocks<Word, kThreads, kKeys><<<blocks_for(rows.n * batch.count, 1), kThreads, 0, stream>>>(rows, batch);
}

template <class Word, bool by_column>
void long_digits(int bits, dim3 grid, const SelectRows& rows, const SegmentBatch& batch, int64_t first_task,
                 LongScratch scratch, cudaStream_t stream) {
  for (int d = 0; d < digits_of(bits); ++d) {
    const Digit digit = digit_of(bits, d);
    count_long<Word, by_column><<<grid, kLongThreads, 0, stream>>>(rows, batch, first_task, digit, scratch);
    choose_long<Word, by_column><<<grid.y, kLongThreads, 0, stream>>>(rows, batch, first_task, digit, scratch);
  }
}

template <class Word>
void by_passes(const SelectRows& rows, const SegmentBatch& batch, void* memory, cudaStream_t stream) {
  const int64_t widest = *std::max_element(batch.width, batch.width + batch.count);
  const int64_t shares = (widest + kLongThreads * kLongItems - 1) / (kLongThreads * kLongItems);
  const int64_t tasks = rows.n * batch.count, at_once = std::min(tasks, kMostTasksAtOnce);
  auto* const progress = static_cast<Progress*>(memory);
  const LongScratch scratch{progress, reinterpret_cast<uint32_t*>(progress + at_once)};
  for (int64_t first = 0; first < tasks; first += at_once) {
    const dim3 grid(static_cast<unsigned>(std::min(kMostBlocksOfLongRow, shares)),
                    static_cast<unsigned>(std::min(at_once, tasks - first)));
    start_long<Word><<<grid.y, kLongThreads, 0, stream>>>(rows, batch, first, scratch);
    long_digits<Word, false>(kKeyBits<Word>, grid, rows, batch, first, scratch, stream);
    if (rows.mask != nullptr) long_digits<Word, true>(kColumnBitsOfLongRows, grid, rows, batch, first, scratch, stream);
    write_long<Word><<<grid, kLongThreads, 0, stream>>>(rows, batch, first, scratch);
  }
}

// The fewest threads whose registers hold a segment. A key of float64 takes two of them.
constexpr int64_t most_in_registers(int word_size) { return word_size == 8 ? 8192 : 16384; }

template <class Word>
constexpr Method kMethods[] = {
    {128, by_warps<Word, 4>},
    {512, by_warps<Word, 16>},
    {1024, by_warps<Word, 32>},
    {3072, by_blocks<Word, 256, 12>},
    {8192, by_blocks<Word, 1024, 8>},
    {most_in_registers(sizeof(Word)), by_blocks<Word, 1024, most_in_registers(sizeof(Word)) / 1024>},
    {int64_t{1} << 31, by_passes<Word>},
};

template <class Word, int kThreads, int kKeys>
void masks_by_blocks(const SelectRows& rows, int64_t masks, uint8_t* packed, cudaStream_t stream) {
  const SegmentBatch batch{1, {0}, {0}, {static_cast<int32_t>(rows.p)}};
  select_masks<Word, kThreads, kKeys><<<blocks_for(rows.n, 1), kThreads, 0, stream>>>(rows, batch, masks, packed);
}

template <class Word>
void select_all_masks(const SelectRows& rows, int64_t masks, uint8_t* packed, cudaStream_t stream) {
  constexpr int64_t most = most_in_registers(sizeof(Word));
  if (rows.p <= 1024) return masks_by_blocks<Word, 256, 4>(rows, masks, packed, stream);
  if (rows.p <= 3072) return masks_by_blocks<Word, 256, 12>(rows, masks, packed, stream);
  if (rows.p <= 8192) return masks_by_blocks<Word, 1024, 8>(rows, masks, packed, stream);
  masks_by_blocks<Word, 1024, most / 1024>(rows, masks, packed, stream);
}

// Calls run(batch) for the segments of more than `above` and at most `most` columns.
template <class Run>
void for_batches(const SelectRows& rows, const int64_t* segments, int64_t above, int64_t most, const Run& run) {
  SegmentBatch batch;
  batch.count = 0;
  for (int64_t s = 0; s < rows.s; ++s) {
    const int64_t width = segments[s + 1] - segments[s];
    // An empty segment has a threshold all the same.
    if (std::max<int64_t>(1, width) > above && width <= most) {
      batch.number[batch.count] = static_cast<int32_t>(s);
      batch.first[batch.count] = static_cast<int32_t>(segments[s]);
      batch.width[batch.count++] = static_cast<int32_t>(width);
    }
    if (batch.count == kMostSegments || (s + 1 == rows.s && batch.count > 0)) {
      run(batch);
      batch.count = 0;
    }
  }
}

template <class Word>
void select(const SelectRows& rows, const int64_t* segments, void* scratch, cudaStream_t stream) {
  int64_t above = 0;
  for (const Method& method : kMethods<Word>) {
    for_batches(rows, segments, above, method.most_columns,
                [&](const SegmentBatch& batch) { method.launch(rows, batch, scratch, stream); });
    above = method.most_columns;
  }
}

}  // namespace

int64_t select_scratch_bytes(const SelectRows& rows, const int64_t* segments) {
  int64_t tasks = 0;
  for_batches(rows, segments, most_in_registers(rows.word_size), int64_t{1} << 31, [&](const SegmentBatch& batch) {
    tasks = std::max(tasks, std::min(kMostTasksAtOnce, rows.n * batch.count));
  });
  return tasks * static_cast<int64_t>(sizeof(Progress) + kMostBins * sizeof(uint32_t));
}

void launch_select(const SelectRows& rows, const int64_t* segments, void* scratch, cudaStream_t stream) {
  if (rows.n == 0) return;
  switch (rows.word_size) {
    case 2:
      return select<uint16_t>(rows, segments, scratch, stream);
    case 4:
      return select<uint32_t>(rows, segments, scratch, stream);
    default:
      return select<uint64_t>(rows, segments, scratch, stream);
  }
}

bool can_select_masks(const SelectRows& rows) { return rows.s == 1 && rows.p <= most_in_registers(rows.word_size); }

void launch_select_masks(const SelectRows& rows, int64_t masks, uint8_t* packed, cudaStream_t stream) {
  if (rows.n == 0 || rows.p == 0 || masks == 0) return;
  switch (rows.word_size) {
    case 2:
      return select_all_masks<uint16_t>(rows, masks, packed, stream);
    case 4:
      return select_all_masks<uint32_t>(rows, masks, packed, stream);
    default:
      return select_all_masks<uint64_t>(rows, masks, packed, stream);
  }
}

}  // namespace zoosparse::cuda
