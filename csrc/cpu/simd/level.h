// Which of the compiled instruction sets runs: the best one the CPU has, unless ZOOSPARSE_SIMD names another.
#pragma once

#include <string>
#include <vector>

namespace zoosparse {

enum class SimdLevel { baseline, avx2, avx512 };

// The level in use. Decided at the first call; throws std::runtime_error when ZOOSPARSE_SIMD asks for a level that is
// unknown, not built, or beyond this CPU.
SimdLevel simd_level();

// Switches for the rest of the process (tests and benchmarks); the same errors.
void set_simd_level(const std::string& name);

std::string simd_level_name();
std::vector<std::string> available_simd_levels();  // best last

}  // namespace zoosparse

// ZOOSPARSE_KERNELS(MaskKernels, mask_kernels) declares one constant table of function pointers per instruction set,
// defined by the stem's .inl, and `mask_kernels()`, which returns the table of the level in use.
#if defined(__x86_64__)
#define ZOOSPARSE_KERNELS(Table, name) \
  namespace zoosparse {                \
  namespace baseline {                 \
  extern const Table name;             \
  }                                    \
  namespace avx2 {                     \
  extern const Table name;             \
  }                                    \
  namespace avx512 {                   \
  extern const Table name;             \
  }                                    \
  inline const Table& name() {         \
    switch (simd_level()) {            \
      case SimdLevel::avx512:          \
        return avx512::name;           \
      case SimdLevel::avx2:            \
        return avx2::name;             \
      default:                         \
        return baseline::name;         \
    }                                  \
  }                                    \
  }
#else
#define ZOOSPARSE_KERNELS(Table, name)                  \
  namespace zoosparse {                                 \
  namespace baseline {                                  \
  extern const Table name;                              \
  }                                                     \
  inline const Table& name() { return baseline::name; } \
  }
#endif
