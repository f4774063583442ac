// Masks as bits, on the GPU: a warp walks along a row, so that neighbouring lanes touch neighbouring bytes whatever the
// width, and no index needs a division. All four are bound by memory; applying a mask does not even read the weights.
#include "cuda/masks.h"

#include "common/bits.h"

namespace zoosparse::cuda {
namespace {

constexpr int kLanes = 32, kRowsOfBlock = 8;
constexpr int kItemsOfLane = 4;  // of one row: loads in flight before the first is used
constexpr int64_t kMostBlocksY = 65535;

// body(row, item) for every item of an [n, width] matrix.
template <class Body>
__global__ void __launch_bounds__(kLanes* kRowsOfBlock) for_each_item(int64_t n, int64_t width, Body body) {
  const int64_t first = int64_t{blockIdx.x} * (kLanes * kItemsOfLane) + threadIdx.x;
  for (int64_t row = int64_t{blockIdx.y} * kRowsOfBlock + threadIdx.y; row < n; row += gridDim.y * kRowsOfBlock)
#pragma unroll
    for (int i = 0; i < kItemsOfLane; ++i)
      if (const int64_t item = first + i * kLanes; item < width) body(row, item);
}

template <class Body>
void launch(int64_t n, int64_t width, cudaStream_t stream, const Body& body) {
  if (n == 0 || width == 0) return;
  const int64_t rows = (n + kRowsOfBlock - 1) / kRowsOfBlock;
  const int64_t items = (width + kLanes * kItemsOfLane - 1) / (kLanes * kItemsOfLane);
  const dim3 grid(static_cast<unsigned>(items), static_cast<unsigned>(rows < kMostBlocksY ? rows : kMostBlocksY));
  for_each_item<<<grid, dim3(kLanes, kRowsOfBlock), 0, stream>>>(n, width, body);
}

// Eight columns from `column` on, fewer at the end of a row. `aligned`: every row starts at a multiple of 8 bytes, and
// has no such end.
template <bool aligned>
struct Pack {
  const uint8_t* mask;  // [n, p]
  uint8_t* packed;      // [n, bytes]
  int64_t p, bytes;

  __device__ void operator()(int64_t row, int64_t byte) const {
    const uint8_t* const from = mask + row * p + byte * 8;
    uint64_t bools = 0;
    if constexpr (aligned) {
      bools = *reinterpret_cast<const uint64_t*>(from);
    } else {
      const int64_t rest = p - byte * 8;
      for (int j = 0; j < 8 && j < rest; ++j) bools |= uint64_t{from[j]} << (8 * j);
    }
    packed[row * bytes + byte] = to_bits(to_ones(bools));
  }
};

template <bool aligned>
struct Unpack {
  const uint8_t* packed;  // [n, bytes]
  uint8_t* mask;          // [n, p]
  int64_t p, bytes;

  __device__ void operator()(int64_t row, int64_t byte) const {
    const uint64_t bools = to_bools(packed[row * bytes + byte]);
    uint8_t* const to = mask + row * p + byte * 8;
    if constexpr (aligned) {
      *reinterpret_cast<uint64_t*>(to) = bools;
    } else {
      const int64_t rest = p - byte * 8;
      for (int j = 0; j < 8 && j < rest; ++j) to[j] = static_cast<uint8_t>(bools >> (8 * j));
    }
  }
};

template <class Word>
struct Apply {
  Word* weights;        // [n, p]
  const uint8_t* mask;  // [n, p]
  int64_t p;

  __device__ void operator()(int64_t row, int64_t column) const {
    if (mask[row * p + column] == 0) weights[row * p + column] = 0;
  }
};

template <class Word>
struct ApplyPacked {
  Word* weights;          // [n, p]
  const uint8_t* packed;  // [n, bytes]
  int64_t p, bytes;

  __device__ void operator()(int64_t row, int64_t column) const {
    if ((packed[row * bytes + column / 8] >> (column % 8) & 1) == 0) weights[row * p + column] = 0;
  }
};

bool rows_are_aligned(const void* rows, int64_t p) { return p % 8 == 0 && reinterpret_cast<uintptr_t>(rows) % 8 == 0; }

// run(word) with the unsigned type of `size` bytes.
template <class Run>
void with_word(int size, const Run& run) {
  switch (size) {
    case 1:
      return run(uint8_t{});
    case 2:
      return run(uint16_t{});
    case 4:
      return run(uint32_t{});
    default:
      return run(uint64_t{});
  }
}

}  // namespace

void launch_pack_mask(const uint8_t* mask, int64_t n, int64_t p, uint8_t* packed, cudaStream_t stream) {
  const int64_t bytes = (p + 7) / 8;
  if (rows_are_aligned(mask, p))
    launch(n, bytes, stream, Pack<true>{mask, packed, p, bytes});
  else
    launch(n, bytes, stream, Pack<false>{mask, packed, p, bytes});
}

void launch_unpack_mask(const uint8_t* packed, int64_t n, int64_t p, uint8_t* mask, cudaStream_t stream) {
  const int64_t bytes = (p + 7) / 8;
  if (rows_are_aligned(mask, p))
    launch(n, bytes, stream, Unpack<true>{packed, mask, p, bytes});
  else
    launch(n, bytes, stream, Unpack<false>{packed, mask, p, bytes});
}

void launch_apply_mask(void* weights, int size, const uint8_t* mask, int64_t n, int64_t p, cudaStream_t stream) {
  with_word(size, [&](auto word) {
    launch(n, p, stream, Apply<decltype(word)>{static_cast<decltype(word)*>(weights), mask, p});
  });
}

void launch_apply_packed_mask(void* weights, int size, const uint8_t* packed, int64_t n, int64_t p,
                              cudaStream_t stream) {
  with_word(size, [&](auto word) {
    launch(n, p, stream, ApplyPacked<decltype(word)>{static_cast<decltype(word)*>(weights), packed, p, (p + 7) / 8});
  });
}

}  // namespace zoosparse::cuda
