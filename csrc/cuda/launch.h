// What every CUDA operator needs around its launch: the device of its tensors, and the current stream there.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace zoosparse::cuda {

// Makes the device of `tensor` current until it goes out of scope; check() after the launch reports its errors.
class Launch {
 public:
  explicit Launch(const at::Tensor& tensor) : guard_(tensor.device()) {
    int major = 0;
    C10_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, tensor.device().index()));
    TORCH_CHECK(major >= 8, "zoosparse's CUDA kernels need a device of 8.0 or later, ", tensor.device(), " is ", major,
                ".x; set ZOOSPARSE_DISABLE_EXT=1 to run on the PyTorch reference");
  }
  cudaStream_t stream() const { return c10::cuda::getCurrentCUDAStream().stream(); }
  void check() const { C10_CUDA_KERNEL_LAUNCH_CHECK(); }

 private:
  c10::cuda::CUDAGuard guard_;
};

inline void check_beside(const at::Tensor& tensor, const at::Tensor& weights, const char* op, const char* name) {
  TORCH_CHECK(tensor.device() == weights.device(), op, ": ", name, " is on ", tensor.device(), ", expected ",
              weights.device());
}

}  // namespace zoosparse::cuda
