// What every CUDA operator needs around its launch: the device of its tensors, and the current stream there.
#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include "common/checks.h"
#include "common/tensor.h"

namespace zoosparse::cuda {

// The place of `weights`, which is a CUDA device.
inline Place device_of(const Tensor& weights, const char* op) {
  const Place place = place_of(weights);
  if (place.type != aoti_torch_device_type_cuda())
    refuse(op, ": weights are on ", name_of(place), ", expected the CUDA device of the other tensors");
  return place;
}

// Makes the device current until it goes out of scope; check() after the launch reports its errors.
class Launch {
 public:
  Launch(const Tensor& weights, const char* op) : place_(device_of(weights, op)), guard_(place_.index) {
    int major = 0;
    STD_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, place_.index));
    if (major < 8)
      throw std::runtime_error("zoosparse's CUDA kernels need a device of 8.0 or later, " + name_of(place_) + " is " +
                               std::to_string(major) +
                               ".x; set ZOOSPARSE_DISABLE_EXT=1 to run on the PyTorch reference");
    void* stream;
    ZOOSPARSE_SHIM(aoti_torch_get_current_cuda_stream(place_.index, &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }

  const Place& place() const { return place_; }
  cudaStream_t stream() const { return stream_; }
  void check() const { STD_CUDA_KERNEL_LAUNCH_CHECK(); }

  // Memory of the device for the time of the launch.
  Tensor space(int64_t size, ScalarType type) const { return empty({size}, type, place_); }

 private:
  Place place_;
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

}  // namespace zoosparse::cuda
