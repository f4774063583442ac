// Eight columns of a mask: as a byte of bits, and as a word of eight bool bytes.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace zoosparse {

// 1 for every byte that is not 0: a bool may hold any byte, as one that is a view of uint8 does. Adding 0x7f carries
// into the top bit whatever the other bits hold.
ZOOSPARSE_HOST_DEVICE static inline uint64_t to_ones(uint64_t bools) {
  return (((bools & 0x7f7f7f7f7f7f7f7fu) + 0x7f7f7f7f7f7f7f7fu) | bools) >> 7 & 0x0101010101010101u;
}

// Gathers the low bit of each byte into one byte: the product puts byte j's bit at position 56 + j.
ZOOSPARSE_HOST_DEVICE static inline uint8_t to_bits(uint64_t bools) {
  return static_cast<uint8_t>((bools * 0x0102040810204080u) >> 56);
}

// The inverse: byte j becomes 1 if bit j is set. Adding 0x7f carries any set bit into the byte's top bit.
ZOOSPARSE_HOST_DEVICE static inline uint64_t to_bools(uint8_t bits) {
  const uint64_t spread = (bits * 0x0101010101010101u) & 0x8040201008040201u;
  return ((spread + 0x7f7f7f7f7f7f7f7fu) >> 7) & 0x0101010101010101u;
}

}  // namespace zoosparse
