// As much of CUDA as the kernels and their tests use, for a compiler of C++: every kernel then runs on the CPU, thread
// by thread; see simt.cpp. Launches are rewritten by CMake, `kernel<<<grid, block, bytes, stream>>>(arguments)` into
// simt::launch(grid, block, bytes, stream, [&] { kernel(arguments); }).
#pragma once

#include <math.h>  // as nvcc does unasked

#include <cstddef>
#include <cstdint>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __shared__ static  // blocks run one after the other
#define __grid_constant__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

// ---- The runtime ----------------------------------------------------------------------------------------------------

typedef struct SimtStream* cudaStream_t;
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor
};

namespace simt {
constexpr int kWarpSize = 32;

void launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, const std::function<void()>& thread);
float* dynamic_shared();
// What every lane of the warp has brought, [kWarpSize] times `size` bytes; orders no other memory, as on a device.
void exchange(const void* mine, void* all, size_t size);
void allow_dynamic_shared(int bytes);
cudaError_t allocate(void** memory, size_t bytes);
}  // namespace simt

template <class T>
cudaError_t cudaMalloc(T** memory, size_t bytes) {
  return simt::allocate(reinterpret_cast<void**>(memory), bytes);
}
cudaError_t cudaFree(void* memory);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int bytes) {
  simt::allow_dynamic_shared(bytes);
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel*, int, size_t) {
  *blocks = 2;
  return cudaSuccess;
}

// ---- What threads call ----------------------------------------------------------------------------------------------

void __syncthreads();

template <class T>
struct SimtLanes {
  T of[simt::kWarpSize];
  explicit SimtLanes(T mine) { simt::exchange(&mine, of, sizeof(T)); }
};
inline int simt_lane() { return static_cast<int>(threadIdx.x + threadIdx.y * blockDim.x) % simt::kWarpSize; }

inline unsigned __ballot_sync(unsigned, bool vote) {
  const SimtLanes<int> lanes(vote);
  unsigned bits = 0;
  for (int lane = 0; lane < simt::kWarpSize; ++lane) bits |= static_cast<unsigned>(lanes.of[lane]) << lane;
  return bits;
}
inline unsigned __reduce_add_sync(unsigned, unsigned value) {
  unsigned sum = 0;
  for (const unsigned other : SimtLanes<unsigned>(value).of) sum += other;
  return sum;
}
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return SimtLanes<T>(value).of[lane % simt::kWarpSize];
}
template <class T>
T __shfl_up_sync(unsigned, T value, int distance) {
  const SimtLanes<T> lanes(value);
  return simt_lane() >= distance ? lanes.of[simt_lane() - distance] : value;
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int bits) {
  return SimtLanes<T>(value).of[simt_lane() ^ bits];
}
template <class T>
T atomicAdd(T* place, T value) {
  return __atomic_fetch_add(place, value, __ATOMIC_RELAXED);
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline float sinpif(float x) { return static_cast<float>(__builtin_sin(3.141592653589793 * static_cast<double>(x))); }
inline float cospif(float x) { return static_cast<float>(__builtin_cos(3.141592653589793 * static_cast<double>(x))); }
