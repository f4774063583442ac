// Sums over the lanes of a warp and the threads of a block, and histograms that many lanes share.
#pragma once

#include <cstdint>

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "the kernels need devices of 8.0 or later, which add up over a warp; leave the others out of the architectures"
#endif

namespace zoosparse::cuda {

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = ~0u;

__device__ inline int lane_of_thread() { return static_cast<int>(threadIdx.x) % kWarpSize; }

// Adds 1 to `bins[bin]` for every active lane; all lanes of the warp must come here. The lanes that agree with the
// first active one share one addition, so that a warp of equal values is not slower than one of different values.
__device__ inline void count_in_bins(uint32_t* bins, bool active, uint32_t bin) {
  const unsigned lanes = __ballot_sync(kAllLanes, active);
  if (lanes == 0) return;
  const int leader = __ffs(static_cast<int>(lanes)) - 1;
  const bool agrees = bin == __shfl_sync(kAllLanes, bin, leader);
  const unsigned agreeing = __ballot_sync(kAllLanes, active && agrees);
  if (lane_of_thread() == leader)
    atomicAdd(bins + bin, static_cast<uint32_t>(__popc(agreeing)));
  else if (active && !agrees)
    atomicAdd(bins + bin, 1u);
}

// The sum of `value` over the threads before this one. `warp_sums` has one place a warp; the block must not write to it
// again before its next barrier.
template <int kThreads>
__device__ inline uint32_t sum_before(uint32_t value, uint32_t* warp_sums) {
  static_assert(kThreads % kWarpSize == 0);
  uint32_t sum = value;
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const uint32_t other = __shfl_up_sync(kAllLanes, sum, distance);
    if (lane_of_thread() >= distance) sum += other;
  }
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  if (lane_of_thread() == kWarpSize - 1) warp_sums[warp] = sum;
  __syncthreads();
  sum -= value;
  for (int w = 0; w < warp; ++w) sum += warp_sums[w];
  return sum;
}

}  // namespace zoosparse::cuda
