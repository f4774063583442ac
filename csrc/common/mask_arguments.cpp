#include "common/mask_arguments.h"

#include "common/checks.h"

namespace zoosparse {

MaskRows rows_to_pack(const Tensor& mask) {
  check_matrix(mask, "pack_mask", "mask");
  check_type(mask, ScalarType::Bool, "pack_mask", "mask");
  const int64_t n = mask.size(0), p = mask.size(1), width = (p + 7) / 8;
  return {contiguous(mask), empty({n, width}, ScalarType::Byte, place_of(mask)), n, p, width};
}

MaskRows rows_to_unpack(const Tensor& packed, int64_t p) {
  check(p >= 0, "unpack_mask: p must not be negative, got ", p);
  check_matrix(packed, "unpack_mask", "packed");
  check_type(packed, ScalarType::Byte, "unpack_mask", "packed");
  const int64_t n = packed.size(0), width = p / 8 + (p % 8 != 0);  // p may be any number
  check_shape(packed, {n, width}, "unpack_mask", "packed");
  return {empty({n, p}, ScalarType::Bool, place_of(packed)), contiguous(packed), n, p, width};
}

MaskedRows::MaskedRows(const Tensor& weights, const Tensor& mask)
    : weights_(weights), packed_(is_of(mask, ScalarType::Byte)) {
  constexpr const char* op = "apply_mask_";
  check_matrix(weights, op, "weights");
  check_matrix(mask, op, "mask");
  check_place(mask, place(), op, "mask");
  if (!packed_) check_type(mask, ScalarType::Bool, op, "mask");
  check_shape(mask, {models(), packed_ ? (parameters() + 7) / 8 : parameters()}, op, "mask");
  size_ = static_cast<int>(weights.element_size());
  if (size_ > 8) refuse(op, ": weights of type ", name_of_type(weights), " are not supported");
  rows_ = contiguous(weights);
  mask_ = contiguous(mask);
}

void MaskedRows::write_back() const {
  if (!weights_.is_contiguous()) copy(rows_, weights_);
}

}  // namespace zoosparse
