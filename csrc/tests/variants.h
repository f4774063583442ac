// The compiled copies of a kernel table that this CPU can run.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "cpu/simd/level.h"
#include "tests/expect.h"

namespace zoosparse::test {

template <class Table>
struct Variant {
  std::string name;
  const Table* table;
};

inline bool runs(const char* level) {
  for (const std::string& name : available_simd_levels())
    if (name == level) return true;
  return false;
}

}  // namespace zoosparse::test

// ZOOSPARSE_VARIANTS(MaskKernels, mask_kernels) defines `variants()` in zoosparse::test.
#if defined(__x86_64__)
#define ZOOSPARSE_VARIANTS(Table, symbol)                                               \
  namespace zoosparse::wide {                                                           \
  extern const Table symbol;                                                            \
  }                                                                                     \
  namespace zoosparse::test {                                                           \
  inline std::vector<Variant<Table>> variants() {                                       \
    std::vector<Variant<Table>> list{{"baseline", &baseline::symbol}};                  \
    if (runs("avx2")) list.push_back({"avx2", &avx2::symbol});                          \
    if (runs("avx2")) list.push_back({"avx512 loops on AVX2", &wide::symbol});          \
    if (runs("avx512")) list.push_back({"avx512", &avx512::symbol});                    \
    for (const auto& variant : list) std::printf("testing %s\n", variant.name.c_str()); \
    return list;                                                                        \
  }                                                                                     \
  }
#else
#define ZOOSPARSE_VARIANTS(Table, symbol)                                                     \
  namespace zoosparse::test {                                                                 \
  inline std::vector<Variant<Table>> variants() { return {{"baseline", &baseline::symbol}}; } \
  }
#endif
