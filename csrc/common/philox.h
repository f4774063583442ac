// Philox4x32-10: random words as a function of a key and a counter, the same on every device.
// Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace zoosparse {

// Purposes of random streams; stream = purpose << 16 | index of the operation in its program.
enum RandomPurpose : uint32_t { kDropoutStream = 1, kVariationalStream = 2, kAugmentStream = 4 };

ZOOSPARSE_HOST_DEVICE constexpr uint32_t stream_id(RandomPurpose purpose, int op) {
  return static_cast<uint32_t>(purpose) << 16 | static_cast<uint32_t>(op);
}

template <class U>
struct WideProduct {
  U high, low;
};

struct MultiplyWords {
  ZOOSPARSE_HOST_DEVICE WideProduct<uint32_t> operator()(uint32_t a, uint32_t b) const {
    const uint64_t product = static_cast<uint64_t>(a) * b;
    return {static_cast<uint32_t>(product >> 32), static_cast<uint32_t>(product)};
  }
};

constexpr int kPhiloxRounds = 10;
constexpr uint32_t kPhiloxFactor0 = 0xD2511F53u, kPhiloxFactor1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxStep0 = 0x9E3779B9u, kPhiloxStep1 = 0xBB67AE85u;  // from key to key of the rounds

// U is uint32_t, or a vector of them with its own widening product. The four words replace the counter.
template <class U, class Multiply>
ZOOSPARSE_HOST_DEVICE static inline void philox_round(U (&counter)[4], U key0, U key1, const Multiply& multiply) {
  const WideProduct<U> p0 = multiply(counter[0], kPhiloxFactor0), p1 = multiply(counter[2], kPhiloxFactor1);
  counter[0] = p1.high ^ counter[1] ^ key0;
  counter[1] = p1.low;
  counter[2] = p0.high ^ counter[3] ^ key1;
  counter[3] = p0.low;
}

ZOOSPARSE_HOST_DEVICE static inline void philox4x32(uint32_t (&counter)[4], uint32_t key0, uint32_t key1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    philox_round(counter, key0, key1, MultiplyWords{});
    key0 += kPhiloxStep0;
    key1 += kPhiloxStep1;
  }
}

}  // namespace zoosparse
