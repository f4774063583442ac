// Launchers of the mask kernels. Nothing is launched for an empty matrix; the caller looks for launch errors.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace zoosparse::cuda {

// mask [n, p] bytes, any but 0 is kept -> packed [n, ceil(p / 8)], bit j of byte i = column 8 i + j; bits beyond p are
// 0.
void launch_pack_mask(const uint8_t* mask, int64_t n, int64_t p, uint8_t* packed, cudaStream_t stream);
void launch_unpack_mask(const uint8_t* packed, int64_t n, int64_t p, uint8_t* mask, cudaStream_t stream);

// weights [n, p] elements of `size` (1, 2, 4 or 8) bytes: +0.0 where the mask is 0, neither read nor written elsewhere.
void launch_apply_mask(void* weights, int size, const uint8_t* mask, int64_t n, int64_t p, cudaStream_t stream);
void launch_apply_packed_mask(void* weights, int size, const uint8_t* packed, int64_t n, int64_t p,
                              cudaStream_t stream);

}  // namespace zoosparse::cuda
