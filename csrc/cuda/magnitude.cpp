// Selection by magnitude on the GPU: dtypes, shapes and devices here, kernels in magnitude.cu.
#include "cuda/magnitude.h"

#include <ATen/ops/empty.h>

#include "common/checks.h"
#include "cuda/launch.h"
#include "cuda/masks.h"
#include "cuda/operators.h"

namespace zoosparse::cuda {
namespace {

int64_t infinity_of(at::ScalarType dtype, const char* op) {
  switch (dtype) {
    case at::kFloat:
      return 0x7f800000;
    case at::kDouble:
      return 0x7ff0000000000000;
    case at::kHalf:
      return 0x7c00;
    case at::kBFloat16:
      return 0x7f80;
    default:
      TORCH_CHECK_VALUE(false, op, ": weights must be float32, float64, float16 or bfloat16, got ", dtype);
  }
}

// What an operator is given, checked: k [N, S] or, with three dimensions, [K, N, S], is returned contiguous. Its values
// stay on the device, unread, since that would wait for all work there: the kernels clamp them to the widths of the
// segments.
at::Tensor check_selection(const at::Tensor& weights, const at::Tensor& k, int64_t dimensions, at::IntArrayRef segments,
                           const char* op) {
  check_matrix(weights, op, "weights");
  check_dtype(k, at::kLong, op, "k");
  check_beside(k, weights, op, "k");
  const int64_t p = weights.size(1), s = static_cast<int64_t>(segments.size()) - 1;
  TORCH_CHECK_VALUE(p < (int64_t{1} << 31), op, ": at most 2^31 - 1 columns, got ", p);
  TORCH_CHECK_VALUE(s >= 1 && segments.front() == 0 && segments.back() == p, op, ": segments must go from 0 to ", p,
                    ", got ", segments);
  for (int64_t i = 0; i < s; ++i)
    TORCH_CHECK_VALUE(segments[i] <= segments[i + 1], op, ": segments must rise, got ", segments);
  TORCH_CHECK_VALUE(k.dim() == dimensions && k.size(-2) == weights.size(0) && k.size(-1) == s, op, ": k must be ",
                    dimensions == 3 ? "[masks, " : "[", weights.size(0), ", ", s, "], got shape ", k.sizes());
  return k.contiguous();
}

SelectRows rows_of(const at::Tensor& weights, const at::Tensor& k, const char* op) {
  return {
      .weights = const_cast<void*>(weights.const_data_ptr()),
      .mask = nullptr,
      .thresholds = nullptr,
      .k = k.const_data_ptr<int64_t>(),
      .n = weights.size(0),
      .p = weights.size(1),
      .s = k.size(-1),
      .infinity = infinity_of(weights.scalar_type(), op),
      .word_size = static_cast<int>(weights.element_size()),
      .prune = false,
  };
}

// Runs the rows of contiguous `weights` [N, P]. Undefined `mask` or `thresholds` are not computed.
void select_rows(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments, const at::Tensor& mask,
                 const at::Tensor& thresholds, bool prune, const char* op) {
  SelectRows rows = rows_of(weights, k, op);
  if (prune) rows.weights = weights.mutable_data_ptr();
  if (mask.defined()) rows.mask = reinterpret_cast<uint8_t*>(mask.mutable_data_ptr<bool>());
  if (thresholds.defined()) rows.thresholds = thresholds.mutable_data_ptr();
  rows.prune = prune;
  const Launch launch(weights);
  const int64_t bytes = select_scratch_bytes(rows, segments.data());
  const auto scratch = at::empty({bytes}, weights.options().dtype(at::kByte));
  launch_select(rows, segments.data(), scratch.mutable_data_ptr(), launch.stream());
  launch.check();
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

// A row is read once for all masks where a block holds it; else a selection and a packing per mask, for which the
// weights come from the L2 cache the second time if they fit there.
at::Tensor magnitude_masks(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments) {
  const auto counts = check_selection(weights, k, 3, segments, "magnitude_masks");
  const auto matrix = weights.contiguous();
  const int64_t masks = k.size(0), n = matrix.size(0), p = matrix.size(1), bytes = n * ((p + 7) / 8);
  auto packed = at::empty({masks, n, (p + 7) / 8}, matrix.options().dtype(at::kByte));
  const Launch launch(matrix);
  const SelectRows rows = rows_of(matrix, counts, "magnitude_masks");
  if (can_select_masks(rows)) {
    launch_select_masks(rows, masks, packed.mutable_data_ptr<uint8_t>(), launch.stream());
    launch.check();
    return packed;
  }
  const auto mask = at::empty(matrix.sizes(), matrix.options().dtype(at::kBool));  // [N, P], one after the other
  for (int64_t i = 0; i < masks; ++i) {
    select_rows(matrix, counts.select(0, i), segments, mask, {}, false, "magnitude_masks");
    launch_pack_mask(reinterpret_cast<const uint8_t*>(mask.const_data_ptr<bool>()), n, p,
                     packed.mutable_data_ptr<uint8_t>() + i * bytes, launch.stream());
    launch.check();
  }
  return packed;
}

}  // namespace zoosparse::cuda
