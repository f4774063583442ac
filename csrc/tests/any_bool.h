// Bytes of bool masks as a view of uint8 may hold them.
#pragma once

#include <cstdint>

namespace zoosparse::test {

// 0 half of the time; else 1, another byte, or one of the single bits.
inline uint8_t any_bool(uint32_t random) {
  const uint32_t kind = random & 7, byte = random >> 8 & 0xff;
  if (kind < 4) return 0;
  return static_cast<uint8_t>(kind == 4 ? 1 : kind == 5 ? byte | 1 : kind == 6 ? byte & 0xfe : 1u << (byte & 7));
}

}  // namespace zoosparse::test
