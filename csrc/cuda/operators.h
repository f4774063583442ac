// Every native CUDA operator: what csrc/bindings/cuda_library.cpp registers, what csrc/cuda/<stem>.cpp defines. Schemas are in
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

// train: as on the CPU; weights, their state, images and labels are on the device, the rest may lie anywhere
std::tuple<at::Tensor, at::Tensor> train_steps_(
    at::Tensor& weights, at::Tensor& moment1, at::Tensor& moment2, at::Tensor& log_sigma2, at::Tensor& sigma_moment1,
    at::Tensor& sigma_moment2, const at::Tensor& program, const at::Tensor& values, const at::Tensor& clamp,
    const at::Tensor& images, const at::Tensor& mean, const at::Tensor& std, const at::Tensor& labels,
    const at::Tensor& order, int64_t batch_size, int64_t optimizer, const at::Tensor& hyper,
    const at::Tensor& lr_factor, const at::Tensor& packed_masks, const at::Tensor& dropout, const at::Tensor& seeds,
    int64_t seed, int64_t first_step, double kl_weight, bool variational_bias, int64_t loss, int64_t crop, bool flip);

// infer: as on the CPU; weights, images and labels are on the device, the rest may lie anywhere
std::tuple<at::Tensor, at::Tensor, at::Tensor> infer(const at::Tensor& weights, const at::Tensor& program,
                                                     const at::Tensor& values, const at::Tensor& images,
                                                     const at::Tensor& mean, const at::Tensor& std,
                                                     const at::Tensor& labels, int64_t classes, int64_t mode);
at::Tensor infer_scores(const at::Tensor& weights, const at::Tensor& program, const at::Tensor& values,
                        const at::Tensor& images, const at::Tensor& mean, const at::Tensor& std, int64_t classes,
                        int64_t mode);

}  // namespace zoosparse::cuda
