// Every native CUDA operator: what csrc/cuda/library.cpp registers, what csrc/cuda/<stem>.cpp defines. Schemas are in
// Python.
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

namespace zoosparse::cuda {

// magnitude: k [N, S] int64, segments [S + 1] offsets
at::Tensor magnitude_threshold(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments);
at::Tensor magnitude_mask(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments);
at::Tensor magnitude_prune_(at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments);
at::Tensor magnitude_masks(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments);  // k [K, N, S]

// masks
at::Tensor pack_mask(const at::Tensor& mask);
at::Tensor unpack_mask(const at::Tensor& packed, int64_t p);
void apply_mask_(at::Tensor& weights, const at::Tensor& mask);

// infer: as on the CPU; weights, images and labels are on the device, the rest may lie anywhere
std::tuple<at::Tensor, at::Tensor, at::Tensor> infer(const at::Tensor& weights, const at::Tensor& program,
                                                     const at::Tensor& values, const at::Tensor& images,
                                                     const at::Tensor& mean, const at::Tensor& std,
                                                     const at::Tensor& labels, int64_t classes, int64_t mode);
at::Tensor infer_scores(const at::Tensor& weights, const at::Tensor& program, const at::Tensor& values,
                        const at::Tensor& images, const at::Tensor& mean, const at::Tensor& std, int64_t classes,
                        int64_t mode);

}  // namespace zoosparse::cuda
