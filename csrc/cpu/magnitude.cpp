// Selection by magnitude on the CPU: types and threads here, one row at a time in simd/magnitude.inl.
#include "cpu/simd/magnitude.h"

#include <memory>
#include <vector>

#include "common/magnitude_arguments.h"
#include "common/operators.h"
#include "cpu/rows.h"

namespace zoosparse::cpu {
namespace {

auto select_of(int word_size) {
  return word_size == 2   ? &MagnitudeKernels::select16
         : word_size == 4 ? &MagnitudeKernels::select32
                          : &MagnitudeKernels::select64;
}

auto grid_of(int word_size) {
  return word_size == 2   ? &MagnitudeKernels::grid16
         : word_size == 4 ? &MagnitudeKernels::grid32
                          : &MagnitudeKernels::grid64;
}

// Scratch of `words` words for elements of `size` bytes; a vector never lies in two lines of the cache.
struct alignas(64) Line {
  uint8_t bytes[64];
};
std::unique_ptr<Line[]> make_scratch(int64_t words, int64_t size) {
  return std::unique_ptr<Line[]>(new Line[words * (size == 8 ? 8 : 4) / 64 + 1]);
}

SelectArguments checked(const char* op, const Tensor& weights, const Tensor& k, Ints segments, int64_t dimensions = 2) {
  SelectArguments arguments(op, weights, k, segments, dimensions);
  arguments.check_counts();
  return arguments;
}

// What is wanted of the rows; null where it is not computed.
struct Wanted {
  uint8_t *mask, *thresholds;
  bool prune;
};

void select_rows(const SelectArguments& arguments, const Wanted& wanted) {
  const auto select = magnitude_kernels().*select_of(arguments.word_size());
  const int64_t n = arguments.models(), p = arguments.parameters(), s = arguments.segment_count();
  const int64_t size = arguments.word_size();
  auto* const words =
      wanted.prune ? write<uint8_t>(arguments.rows()) : const_cast<uint8_t*>(read<uint8_t>(arguments.rows()));
  const int64_t *const k = arguments.k(), *const segments = arguments.segments();
  for_row_ranges(n, p, [&](int64_t first, int64_t last) {
    const auto scratch = make_scratch(select_scratch_words(p), size);
    for (int64_t row = first; row < last; ++row) {
      select(SelectRow{
          .weights = words + row * p * size,
          .mask = wanted.mask == nullptr ? nullptr : wanted.mask + row * p,
          .thresholds = wanted.thresholds == nullptr ? nullptr : wanted.thresholds + row * s * size,
          .segments = segments,
          .k = k + row * s,
          .segment_count = s,
          .infinity = arguments.infinity(),
          .prune = wanted.prune,
          .scratch = scratch.get(),
      });
    }
  });
}

}  // namespace

Tensor magnitude_threshold(const Tensor& weights, const Tensor& k, Ints segments) {
  const SelectArguments arguments = checked("magnitude_threshold", weights, k, segments);
  const Tensor thresholds = arguments.empty_thresholds();
  select_rows(arguments, {.mask = nullptr, .thresholds = write<uint8_t>(thresholds), .prune = false});
  return thresholds;
}

Tensor magnitude_mask(const Tensor& weights, const Tensor& k, Ints segments) {
  const SelectArguments arguments = checked("magnitude_mask", weights, k, segments);
  const Tensor mask = arguments.empty_mask();
  select_rows(arguments, {.mask = write<uint8_t>(mask), .thresholds = nullptr, .prune = false});
  return mask;
}

Tensor magnitude_prune_(const Tensor& weights, const Tensor& k, Ints segments) {
  const SelectArguments arguments = checked("magnitude_prune_", weights, k, segments);
  const Tensor mask = arguments.empty_mask();
  select_rows(arguments, {.mask = write<uint8_t>(mask), .thresholds = nullptr, .prune = true});
  arguments.write_back();
  return mask;
}

Tensor magnitude_masks(const Tensor& weights, const Tensor& k, Ints segments) {
  const SelectArguments arguments = checked("magnitude_masks", weights, k, segments, 3);
  const auto select = magnitude_kernels().*grid_of(arguments.word_size());
  const int64_t masks = arguments.masks(), n = arguments.models(), p = arguments.parameters();
  const int64_t s = arguments.segment_count(), size = arguments.word_size(), width = (p + 7) / 8;
  const Tensor packed = arguments.empty_packed_masks();
  const auto* const words = read<uint8_t>(arguments.rows());
  auto* const bits = write<uint8_t>(packed);
  const int64_t* const first_count = arguments.k();
  for_row_ranges(n, p * masks, [&](int64_t first, int64_t last) {
    const auto scratch = make_scratch(grid_scratch_words(p), size);
    std::vector<int64_t> order(static_cast<size_t>(2 * masks));
    for (int64_t row = first; row < last; ++row)
      select(SelectGrid{
          .weights = words + row * p * size,
          .packed = bits + row * width,
          .segments = arguments.segments(),
          .k = first_count + row * s,
          .masks = masks,
          .mask_stride = n * width,
          .k_stride = n * s,
          .segment_count = s,
          .infinity = arguments.infinity(),
          .order = order.data(),
          .scratch = scratch.get(),
      });
  });
  return packed;
}

}  // namespace zoosparse::cpu
