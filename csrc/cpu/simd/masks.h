// Mask loops on one row: bool bytes to bits and back, and zeroing what a mask prunes.
#pragma once

#include <cstdint>

#include "cpu/simd/level.h"

namespace zoosparse {

struct MaskKernels {
  // mask [p] bytes, any but 0 is kept -> packed [ceil(p / 8)], bit j of byte i = column 8 i + j; bits beyond p are 0.
  void (*pack)(const uint8_t* mask, int64_t p, uint8_t* packed);
  void (*unpack)(const uint8_t* packed, int64_t p, uint8_t* mask);
  // weights [p] elements of `size` (1, 2, 4 or 8) bytes: +0.0 where the mask is 0, untouched elsewhere.
  void (*apply)(void* weights, int size, const uint8_t* mask, int64_t p);
  void (*apply_packed)(void* weights, int size, const uint8_t* packed, int64_t p);
};

}  // namespace zoosparse

ZOOSPARSE_KERNELS(MaskKernels, mask_kernels)
