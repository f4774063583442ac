// Masks as bits, on the CPU: rows and threads here, one row at a time goes to the loops of simd/masks.inl.
#include "cpu/simd/masks.h"

#include "common/mask_arguments.h"
#include "common/operators.h"
#include "cpu/rows.h"

namespace zoosparse::cpu {

Tensor pack_mask(const Tensor& mask) {
  const MaskRows rows = rows_to_pack(mask);
  const auto* from = read<uint8_t>(rows.bools);
  auto* to = write<uint8_t>(rows.bits);
  const auto& kernels = mask_kernels();
  for_each_row(rows.n, rows.p, [&](int64_t row) { kernels.pack(from + row * rows.p, rows.p, to + row * rows.width); });
  return rows.bits;
}

Tensor unpack_mask(const Tensor& packed, int64_t p) {
  const MaskRows rows = rows_to_unpack(packed, p);
  const auto* from = read<uint8_t>(rows.bits);
  auto* to = write<uint8_t>(rows.bools);
  const auto& kernels = mask_kernels();
  for_each_row(rows.n, p, [&](int64_t row) { kernels.unpack(from + row * rows.width, p, to + row * p); });
  return rows.bools;
}

void apply_mask_(const Tensor& weights, const Tensor& mask) {
  const MaskedRows rows(weights, mask);
  const int64_t p = rows.parameters(), width = rows.width();
  const int size = rows.size();
  auto* to = rows.weights();
  const auto* from = rows.mask();
  const auto& kernels = mask_kernels();
  const auto apply = rows.packed() ? kernels.apply_packed : kernels.apply;
  for_each_row(rows.models(), p, [&](int64_t row) { apply(to + row * p * size, size, from + row * width, p); });
  rows.write_back();
}

}  // namespace zoosparse::cpu
