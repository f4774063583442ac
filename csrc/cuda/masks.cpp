// Masks as bits, on the GPU: shapes, dtypes and devices are settled here, kernels are in masks.cu.
#include "cuda/masks.h"

#include <ATen/ops/empty.h>

#include "common/checks.h"
#include "cuda/launch.h"
#include "cuda/operators.h"

namespace zoosparse::cuda {

at::Tensor pack_mask(const at::Tensor& mask) {
  check_matrix(mask, "pack_mask", "mask");
  check_dtype(mask, at::kBool, "pack_mask", "mask");
  const Launch launch(mask);
  const auto bools = mask.contiguous();  // [N, P]
  const int64_t n = bools.size(0), p = bools.size(1);
  auto packed = at::empty({n, (p + 7) / 8}, bools.options().dtype(at::kByte));
  launch_pack_mask(reinterpret_cast<const uint8_t*>(bools.const_data_ptr<bool>()), n, p,
                   packed.mutable_data_ptr<uint8_t>(), launch.stream());
  launch.check();
  return packed;
}

at::Tensor unpack_mask(const at::Tensor& packed, int64_t p) {
  TORCH_CHECK_VALUE(p >= 0, "unpack_mask: p must not be negative, got ", p);
  check_matrix(packed, "unpack_mask", "packed");
  check_dtype(packed, at::kByte, "unpack_mask", "packed");
  const int64_t n = packed.size(0);
  check_shape(packed, {n, p / 8 + (p % 8 != 0)}, "unpack_mask", "packed");  // p may be any number
  const Launch launch(packed);
  const auto bits = packed.contiguous();  // [N, ceil(P / 8)]
  auto mask = at::empty({n, p}, bits.options().dtype(at::kBool));
  launch_unpack_mask(bits.const_data_ptr<uint8_t>(), n, p, reinterpret_cast<uint8_t*>(mask.mutable_data_ptr<bool>()),
                     launch.stream());
  launch.check();
  return mask;
}

void apply_mask_(at::Tensor& weights, const at::Tensor& mask) {
  check_matrix(weights, "apply_mask_", "weights");
  check_matrix(mask, "apply_mask_", "mask");
  check_beside(mask, weights, "apply_mask_", "mask");
  const bool packed = mask.scalar_type() == at::kByte;
  if (!packed) check_dtype(mask, at::kBool, "apply_mask_", "mask");
  const int64_t n = weights.size(0), p = weights.size(1);
  check_shape(mask, {n, packed ? (p + 7) / 8 : p}, "apply_mask_", "mask");
  const int size = static_cast<int>(weights.element_size());
  TORCH_CHECK_VALUE(size <= 8, "apply_mask_: weights of dtype ", weights.scalar_type(), " are not supported");

  const Launch launch(weights);
  auto rows = weights.contiguous();  // [N, P]; a copy when weights is a strided view
  const auto keep = mask.contiguous();
  const auto apply = packed ? launch_apply_packed_mask : launch_apply_mask;
  apply(rows.mutable_data_ptr(), size, static_cast<const uint8_t*>(keep.const_data_ptr()), n, p, launch.stream());
  launch.check();
  if (!rows.is_same(weights)) weights.copy_(rows);
}

}  // namespace zoosparse::cuda
