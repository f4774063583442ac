// A small portable vector layer on the GCC/Clang vector extensions, for files compiled once per instruction set.
//
// Everything here, and in every .inl, has internal linkage and uses nothing of the C++ standard library: a function
// compiled with AVX-512 flags must never be the copy that the linker keeps for a CPU without it. ctest checks it.
#pragma once

#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(ZOOSPARSE_EMULATE_AVX512)  // tests: the AVX-512 intrinsics in plain code, on a CPU without them
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#endif

#if !defined(ZOOSPARSE_ISA)  // an .inl on its own, as an editor parses it; CMakeLists.txt names one for every object
#define ZOOSPARSE_ISA baseline
#endif

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

#if defined(ZOOSPARSE_VECTOR_BYTES)  // tests: another width than the target's own
constexpr int kVectorBytes = ZOOSPARSE_VECTOR_BYTES;
#elif defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T, int lanes>
struct VectorOf {
  typedef T type __attribute__((vector_size(lanes * sizeof(T))));
};

// Arithmetic and comparisons work lane by lane; a comparison gives all ones (-1) or zeros as a signed integer vector.
template <class T, int lanes>
using Vector = typename VectorOf<T, lanes>::type;

template <class V>
inline V load(const void* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof(V));
  return value;
}

template <class V>
inline void store(void* to, V value) {
  __builtin_memcpy(to, &value, sizeof(V));
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
