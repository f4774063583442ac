// Masks as bits, on the CPU: shapes and dtypes are settled here, one row at a time goes to the loops of simd/masks.inl.
#include "cpu/simd/masks.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "common/checks.h"
#include "common/operators.h"
#include "cpu/rows.h"

namespace zoosparse::cpu {

at::Tensor pack_mask(const at::Tensor& mask) {
  check_matrix(mask, "pack_mask", "mask");
  check_dtype(mask, at::kBool, "pack_mask", "mask");
  const auto bools = mask.contiguous();  // [N, P]
  const int64_t n = bools.size(0), p = bools.size(1), bytes = (p + 7) / 8;
  auto packed = at::empty({n, bytes}, bools.options().dtype(at::kByte));
  const auto* from = reinterpret_cast<const uint8_t*>(bools.const_data_ptr<bool>());
  auto* to = packed.mutable_data_ptr<uint8_t>();
  const auto& kernels = mask_kernels();
  for_each_row(n, p, [&](int64_t row) { kernels.pack(from + row * p, p, to + row * bytes); });
  return packed;
}

at::Tensor unpack_mask(const at::Tensor& packed, int64_t p) {
  TORCH_CHECK_VALUE(p >= 0, "unpack_mask: p must not be negative, got ", p);
  check_matrix(packed, "unpack_mask", "packed");
  check_dtype(packed, at::kByte, "unpack_mask", "packed");
  const int64_t n = packed.size(0), bytes = p / 8 + (p % 8 != 0);  // p may be any number
  check_shape(packed, {n, bytes}, "unpack_mask", "packed");
  const auto bits = packed.contiguous();  // [N, ceil(P / 8)]
  auto mask = at::empty({n, p}, bits.options().dtype(at::kBool));
  const auto* from = bits.const_data_ptr<uint8_t>();
  auto* to = reinterpret_cast<uint8_t*>(mask.mutable_data_ptr<bool>());
  const auto& kernels = mask_kernels();
  for_each_row(n, p, [&](int64_t row) { kernels.unpack(from + row * bytes, p, to + row * p); });
  return mask;
}

void apply_mask_(at::Tensor& weights, const at::Tensor& mask) {
  check_matrix(weights, "apply_mask_", "weights");
  const bool packed = mask.scalar_type() == at::kByte;
  if (!packed) check_dtype(mask, at::kBool, "apply_mask_", "mask");
  const int64_t n = weights.size(0), p = weights.size(1), width = packed ? (p + 7) / 8 : p;
  check_shape(mask, {n, width}, "apply_mask_", "mask");
  const int size = static_cast<int>(weights.element_size());
  TORCH_CHECK_VALUE(size <= 8, "apply_mask_: weights of dtype ", weights.scalar_type(), " are not supported");

  auto rows = weights.contiguous();  // [N, P]; a copy when weights is a strided view
  const auto keep = mask.contiguous();
  auto* to = static_cast<uint8_t*>(rows.mutable_data_ptr());
  const auto* from = static_cast<const uint8_t*>(keep.const_data_ptr());
  const auto& kernels = mask_kernels();
  const auto apply = packed ? kernels.apply_packed : kernels.apply;
  for_each_row(n, p, [&](int64_t row) { apply(to + row * p * size, size, from + row * width, p); });
  if (!rows.is_same(weights)) weights.copy_(rows);
}

}  // namespace zoosparse::cpu
