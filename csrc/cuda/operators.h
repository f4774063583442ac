// Every native CUDA operator: what csrc/cuda/library.cpp registers, what csrc/cuda/<stem>.cpp defines. Schemas are in
// Python.
#pragma once

#include <ATen/core/Tensor.h>

namespace zoosparse::cuda {

// magnitude: k [N, S] int64, segments [S + 1] offsets
at::Tensor magnitude_threshold(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments);
at::Tensor magnitude_mask(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments);
at::Tensor magnitude_prune_(at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments);

// masks
at::Tensor pack_mask(const at::Tensor& mask);
at::Tensor unpack_mask(const at::Tensor& packed, int64_t p);
void apply_mask_(at::Tensor& weights, const at::Tensor& mask);

}  // namespace zoosparse::cuda
