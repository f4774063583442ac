// Functions that CUDA kernels share with the CPU.
#pragma once

#if defined(__CUDACC__)
#define ZOOSPARSE_HOST_DEVICE __host__ __device__
#else
#define ZOOSPARSE_HOST_DEVICE
#endif
