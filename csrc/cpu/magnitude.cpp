// Selection by magnitude on the CPU: dtypes, shapes and threads here, one row at a time in simd/magnitude.inl.
#include "cpu/simd/magnitude.h"

#include <ATen/ops/empty.h>

#include <memory>
#include <string>
#include <vector>

#include "common/checks.h"
#include "common/operators.h"
#include "cpu/rows.h"

namespace zoosparse::cpu {
namespace {

struct Format {
  void (*MagnitudeKernels::*select)(const SelectRow&);
  void (*MagnitudeKernels::*grid)(const SelectGrid&);
  int64_t infinity;
};

Format format_of(at::ScalarType dtype, const char* op) {
  switch (dtype) {
    case at::kFloat:
      return {&MagnitudeKernels::select32, &MagnitudeKernels::grid32, 0x7f800000};
    case at::kDouble:
      return {&MagnitudeKernels::select64, &MagnitudeKernels::grid64, 0x7ff0000000000000};
    case at::kHalf:
      return {&MagnitudeKernels::select16, &MagnitudeKernels::grid16, 0x7c00};
    case at::kBFloat16:
      return {&MagnitudeKernels::select16, &MagnitudeKernels::grid16, 0x7f80};
    default:
      TORCH_CHECK_VALUE(false, op, ": weights must be float32, float64, float16 or bfloat16, got ", dtype);
  }
}

// k [N, S] or [K, N, S], contiguous: every count lies between 0 and the width of its segment.
void check_counts(const at::Tensor& k, at::IntArrayRef segments, const char* op) {
  const int64_t s = k.size(-1), n = k.size(-2);
  const auto* count = k.const_data_ptr<int64_t>();
  for (int64_t row = 0; row < k.numel() / s; ++row)
    for (int64_t i = 0; i < s; ++i, ++count) {
      const int64_t width = segments[i + 1] - segments[i];
      TORCH_CHECK_VALUE(*count >= 0 && *count <= width, op, ": k = ", *count, " in row ", row % n,
                        s > 1 ? " for segment " + std::to_string(i) : "", ", but it must lie between 0 and the ", width,
                        " weights that are there");
    }
}

// What an operator is given, checked: k [N, S], of 3 `dimensions` [K, N, S], is returned contiguous.
at::Tensor check_selection(const at::Tensor& weights, const at::Tensor& k, int64_t dimensions, at::IntArrayRef segments,
                           const char* op) {
  check_matrix(weights, op, "weights");
  check_dtype(k, at::kLong, op, "k");
  const int64_t p = weights.size(1), s = static_cast<int64_t>(segments.size()) - 1;
  TORCH_CHECK_VALUE(p < (int64_t{1} << 31), op, ": at most 2^31 - 1 columns, got ", p);  // lanes count in 32 bits
  TORCH_CHECK_VALUE(s >= 1 && segments.front() == 0 && segments.back() == p, op, ": segments must go from 0 to ", p,
                    ", got ", segments);
  TORCH_CHECK_VALUE(k.dim() == dimensions && k.size(-2) == weights.size(0) && k.size(-1) == s, op, ": k must be ",
                    dimensions == 3 ? "[K, " : "[", weights.size(0), ", ", s, "], got ", k.sizes());
  for (int64_t i = 0; i < s; ++i)
    TORCH_CHECK_VALUE(segments[i] <= segments[i + 1], op, ": segments must rise, got ", segments);
  auto counts = k.contiguous();
  check_counts(counts, segments, op);
  return counts;
}

// Scratch of `words` words for elements of `size` bytes; a vector never lies in two lines of the cache.
struct alignas(64) Line {
  uint8_t bytes[64];
};
std::unique_ptr<Line[]> make_scratch(int64_t words, int64_t size) {
  return std::unique_ptr<Line[]>(new Line[words * (size == 8 ? 8 : 4) / 64 + 1]);
}

// Runs the rows of contiguous `weights` [N, P]. Undefined `mask` or `thresholds` are not computed.
void select_rows(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments, const at::Tensor& mask,
                 const at::Tensor& thresholds, bool prune, const char* op) {
  const Format format = format_of(weights.scalar_type(), op);
  const auto select = magnitude_kernels().*format.select;
  const int64_t n = weights.size(0), p = weights.size(1), s = k.size(1), size = weights.element_size();
  auto* const words =
      static_cast<uint8_t*>(prune ? weights.mutable_data_ptr() : const_cast<void*>(weights.const_data_ptr()));
  auto* const kept = mask.defined() ? reinterpret_cast<uint8_t*>(mask.mutable_data_ptr<bool>()) : nullptr;
  auto* const levels = thresholds.defined() ? static_cast<uint8_t*>(thresholds.mutable_data_ptr()) : nullptr;
  const auto* const counts = k.const_data_ptr<int64_t>();
  for_row_ranges(n, p, [&](int64_t first, int64_t last) {
    const auto scratch = make_scratch(select_scratch_words(p), size);
    for (int64_t row = first; row < last; ++row) {
      select(SelectRow{
          .weights = words + row * p * size,
          .mask = kept == nullptr ? nullptr : kept + row * p,
          .thresholds = levels == nullptr ? nullptr : levels + row * s * size,
          .segments = segments.data(),
          .k = counts + row * s,
          .segment_count = s,
          .infinity = format.infinity,
          .prune = prune,
          .scratch = scratch.get(),
      });
    }
  });
}

}  // namespace

at::Tensor magnitude_threshold(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments) {
  const auto counts = check_selection(weights, k, 2, segments, "magnitude_threshold");
  auto thresholds = at::empty(k.sizes(), weights.options());  // [N, S]
  select_rows(weights.contiguous(), counts, segments, {}, thresholds, false, "magnitude_threshold");
  return thresholds;
}

at::Tensor magnitude_mask(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments) {
  const auto counts = check_selection(weights, k, 2, segments, "magnitude_mask");
  auto mask = at::empty(weights.sizes(), weights.options().dtype(at::kBool));  // [N, P]
  select_rows(weights.contiguous(), counts, segments, mask, {}, false, "magnitude_mask");
  return mask;
}

at::Tensor magnitude_prune_(at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments) {
  const auto counts = check_selection(weights, k, 2, segments, "magnitude_prune_");
  auto mask = at::empty(weights.sizes(), weights.options().dtype(at::kBool));  // [N, P]
  const auto rows = weights.contiguous();                                      // a copy when weights is a strided view
  select_rows(rows, counts, segments, mask, {}, true, "magnitude_prune_");
  if (!rows.is_same(weights)) weights.copy_(rows);
  return mask;
}

at::Tensor magnitude_masks(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments) {
  constexpr const char* op = "magnitude_masks";
  check_matrix(weights, op, "weights");
  const auto counts = check_selection(weights, k, 3, segments, op);
  const Format format = format_of(weights.scalar_type(), op);
  const auto select = magnitude_kernels().*format.grid;
  const int64_t masks = k.size(0), n = weights.size(0), p = weights.size(1), s = k.size(2), width = (p + 7) / 8;
  auto packed = at::empty({masks, n, width}, weights.options().dtype(at::kByte));
  const auto rows = weights.contiguous();
  const auto* const words = static_cast<const uint8_t*>(rows.const_data_ptr());
  auto* const bits = packed.mutable_data_ptr<uint8_t>();
  const auto* const first_count = counts.const_data_ptr<int64_t>();
  for_row_ranges(n, p * masks, [&](int64_t first, int64_t last) {
    const auto scratch = make_scratch(grid_scratch_words(p), rows.element_size());
    std::vector<int64_t> order(static_cast<size_t>(2 * masks));
    for (int64_t row = first; row < last; ++row)
      select(SelectGrid{
          .weights = words + row * p * rows.element_size(),
          .packed = bits + row * width,
          .segments = segments.data(),
          .k = first_count + row * s,
          .masks = masks,
          .mask_stride = n * width,
          .k_stride = n * s,
          .segment_count = s,
          .infinity = format.infinity,
          .order = order.data(),
          .scratch = scratch.get(),
      });
  });
  return packed;
}

}  // namespace zoosparse::cpu
