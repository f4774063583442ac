// The arguments of the operators on masks, checked and settled for the kernels of any device.
#pragma once

#include "common/tensor.h"

namespace zoosparse {

// Bools [n, p] and bits [n, width], bit j of byte i = column 8 i + j; the one that is computed is whatever was there.
struct MaskRows {
  Tensor bools, bits;
  int64_t n, p, width;
};
MaskRows rows_to_pack(const Tensor& mask);
MaskRows rows_to_unpack(const Tensor& packed, int64_t p);

// Weights whose elements have `size` (1, 2, 4 or 8) bytes, and what is kept of them: bools [n, p], or bits.
class MaskedRows {
 public:
  MaskedRows(const Tensor& weights, const Tensor& mask);

  Place place() const { return place_of(weights_); }
  int64_t models() const { return weights_.size(0); }
  int64_t parameters() const { return weights_.size(1); }
  int64_t width() const { return mask_.size(1); }
  int size() const { return size_; }
  bool packed() const { return packed_; }

  uint8_t* weights() const { return write<uint8_t>(rows_); }
  const uint8_t* mask() const { return read<uint8_t>(mask_); }

  // Puts the rows back, where they are a copy of a strided view.
  void write_back() const;

 private:
  Tensor weights_, rows_, mask_;
  int size_;
  bool packed_;
};

}  // namespace zoosparse
