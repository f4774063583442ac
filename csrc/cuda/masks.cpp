// Masks as bits, on the GPU: launches here, kernels in masks.cu.
#include "cuda/masks.h"

#include "common/mask_arguments.h"
#include "common/operators.h"
#include "cuda/launch.h"

namespace zoosparse::cuda {

Tensor pack_mask(const Tensor& mask) {
  const Launch launch(mask, "pack_mask");
  const MaskRows rows = rows_to_pack(mask);
  launch_pack_mask(read<uint8_t>(rows.bools), rows.n, rows.p, write<uint8_t>(rows.bits), launch.stream());
  launch.check();
  return rows.bits;
}

Tensor unpack_mask(const Tensor& packed, int64_t p) {
  const Launch launch(packed, "unpack_mask");
  const MaskRows rows = rows_to_unpack(packed, p);
  launch_unpack_mask(read<uint8_t>(rows.bits), rows.n, rows.p, write<uint8_t>(rows.bools), launch.stream());
  launch.check();
  return rows.bools;
}

void apply_mask_(const Tensor& weights, const Tensor& mask) {
  const Launch launch(weights, "apply_mask_");
  const MaskedRows rows(weights, mask);
  const auto apply = rows.packed() ? launch_apply_packed_mask : launch_apply_mask;
  apply(rows.weights(), rows.size(), rows.mask(), rows.models(), rows.parameters(), launch.stream());
  launch.check();
  rows.write_back();
}

}  // namespace zoosparse::cuda
