// Functions that CUDA kernels share with the CPU.
#pragma once

#if defined(__CUDACC__)
#define ZOOSPARSE_HOST_DEVICE __host__ __device__
#define ZOOSPARSE_FORMULA __host__ __device__ static __forceinline__
#else
#define ZOOSPARSE_HOST_DEVICE
#define ZOOSPARSE_FORMULA static inline __attribute__((always_inline))
#endif

// Before a loop over a tile of registers. Of its own accord GCC unrolls no more than 16 rounds, and keeps the whole
// tile in memory if one loop over it is left. nvcc warns of GCC's pragma, and what it compiles for the host is no tile.
#if defined(__CUDA_ARCH__)
#define ZOOSPARSE_UNROLL _Pragma("unroll")
#elif defined(__CUDACC__)
#define ZOOSPARSE_UNROLL
#else
#define ZOOSPARSE_UNROLL _Pragma("GCC unroll 32")
#endif
