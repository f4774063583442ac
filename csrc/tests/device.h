// Tests of CUDA kernels without torch: memory of the device, and a way to say that there is none.
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace zoosparse::test {

constexpr int kSkipped = 77;  // exit code that ctest shows as skipped

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("CUDA error: %s\n", cudaGetErrorString(error));
  std::exit(EXIT_FAILURE);
}

inline bool has_device() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) std::printf("skipped: %s\n", cudaGetErrorString(error));
  return error == cudaSuccess && count > 0;
}

// A copy of a vector on the device, exactly as large, so that compute-sanitizer sees what leaves it.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values) : size_(values.size()) {
    check(cudaMalloc(&data_, size_ * sizeof(T) + (size_ == 0)));
    check(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  T* get() const { return data_; }
  // Waits for the kernels.
  std::vector<T> read() const {
    std::vector<T> values(size_);
    check(cudaGetLastError());
    check(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

}  // namespace zoosparse::test
