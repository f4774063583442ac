// Memory of a thread, aligned for the widest vector; its numbers are whatever was there.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace zoosparse {

struct FreeAligned {
  void operator()(float* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
};
using AlignedFloats = std::unique_ptr<float[], FreeAligned>;

inline AlignedFloats aligned_floats(int64_t count) {
  return AlignedFloats(new (std::align_val_t{64}) float[static_cast<size_t>(count)]);
}

}  // namespace zoosparse
