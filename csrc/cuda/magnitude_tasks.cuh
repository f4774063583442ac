// A task of selection is one segment of one row; segments of like width run in one launch.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/select.h"
#include "cuda/magnitude.h"

namespace zoosparse::cuda {
namespace {

template <class Word>
using KeyOf = std::conditional_t<sizeof(Word) == 8, uint64_t, uint32_t>;

__host__ __device__ constexpr int bits_of_columns(int64_t width) {
  int bits = 0;
  while (int64_t{1} << bits < width) ++bits;
  return bits;
}

// Segments of a launch, passed by value: no copy to the device, nothing to wait for.
constexpr int kMostSegments = 64;
struct SegmentBatch {
  int32_t count;
  int32_t number[kMostSegments];  // among all segments
  int32_t first[kMostSegments], width[kMostSegments];
};

template <class Word>
struct Task {
  using Key = KeyOf<Word>;

  Word* weights;    // [width]
  uint8_t* mask;    // [width], or null
  Word* threshold;  // or null
  Key infinity;
  uint32_t width, k;
  bool prune;

  __device__ Task(const SelectRows& rows, const SegmentBatch& batch, int64_t task) {
    const int64_t row = task / batch.count;
    const int segment = static_cast<int>(task % batch.count);
    const int64_t at = row * rows.p + batch.first[segment], result = row * rows.s + batch.number[segment];
    weights = static_cast<Word*>(rows.weights) + at;
    mask = rows.mask == nullptr ? nullptr : rows.mask + at;
    threshold = rows.thresholds == nullptr ? nullptr : static_cast<Word*>(rows.thresholds) + result;
    infinity = static_cast<Key>(rows.infinity);
    width = static_cast<uint32_t>(batch.width[segment]);
    k = bounded(rows.k[result], width);
    prune = rows.prune;
  }

  __device__ static uint32_t bounded(int64_t k, uint32_t width) {
    return k < 0 ? 0 : k < width ? static_cast<uint32_t>(k) : width;
  }

  // Where k is 0: says so in threshold and mask.
  __device__ bool finish_if_nothing_goes(uint32_t thread, uint32_t threads) const {
    if (k > 0) return false;
    if (threshold != nullptr && thread == 0) *threshold = minus_infinity<Word>(infinity);
    if (mask != nullptr)
      for (uint32_t column = thread; column < width; column += threads) mask[column] = 1;
    return true;
  }

  // Thread t holds the columns t, t + kThreads, …; beyond the end keys that no search finds. Places are one base and a
  // constant each, so that they take no registers of their own.
  template <int kThreads, int kKeys>
  __device__ void load(int thread, Key (&keys)[kKeys]) const {
    const Word* const from = weights + thread;
    const int rest = static_cast<int>(width) - thread;
    Word words[kKeys] = {};
#pragma unroll
    for (int i = 0; i < kKeys; ++i)
      if (i * kThreads < rest) words[i] = from[i * kThreads];
#pragma unroll
    for (int i = 0; i < kKeys; ++i) keys[i] = i * kThreads < rest ? magnitude_key<Key>(words[i], infinity) : ~Key(0);
  }

  template <int kThreads, int kKeys>
  __device__ void store(int thread, const Key (&keys)[kKeys], const Threshold<Key>& found) const {
    if (threshold != nullptr && thread == 0) *threshold = weight_of_key<Word>(found.key, infinity);
    if (mask == nullptr) return;
    Word* const weight = weights + thread;
    uint8_t* const keep = mask + thread;
    const int rest = static_cast<int>(width) - thread;
#pragma unroll
    for (int i = 0; i < kKeys; ++i) {
      if (i * kThreads >= rest) break;
      const bool pruned = found.prunes(keys[i], static_cast<uint32_t>(thread + i * kThreads));
      keep[i * kThreads] = !pruned;
      if (prune && pruned) weight[i * kThreads] = 0;
    }
  }

  __device__ void write(uint32_t column, bool pruned) const {
    mask[column] = !pruned;
    if (prune && pruned) weights[column] = 0;
  }
};

}  // namespace
}  // namespace zoosparse::cuda
