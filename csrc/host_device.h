// Functions that CUDA kernels share with the CPU.
#pragma once

#if defined(__CUDACC__)
#define ZOOSPARSE_HOST_DEVICE __host__ __device__
#define ZOOSPARSE_FORMULA __host__ __device__ static __forceinline__
#else
#define ZOOSPARSE_HOST_DEVICE
#define ZOOSPARSE_FORMULA static inline __attribute__((always_inline))
#endif

// Loops over a tile of registers.
#if defined(__CUDA_ARCH__)
#define ZOOSPARSE_UNROLL _Pragma("unroll")
#else
#define ZOOSPARSE_UNROLL
#endif
