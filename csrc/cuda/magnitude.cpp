// Selection by magnitude on the GPU: dtypes, shapes and devices here, kernels in magnitude.cu.
#include "cuda/magnitude.h"

#include <ATen/ops/empty.h>

#include "checks.h"
#include "cuda/launch.h"
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
      TORCH_CHECK(false, op, ": weights must be float32, float64, float16 or bfloat16, got ", dtype);
  }
}

// The values of k stay on the device, unread: the kernels bound them by the widths of the segments.
void check_selection(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments, const char* op) {
  check_matrix(weights, op, "weights");
  check_dtype(k, at::kLong, op, "k");
  check_beside(k, weights, op, "k");
  const int64_t p = weights.size(1), s = static_cast<int64_t>(segments.size()) - 1;
  TORCH_CHECK(p < (int64_t{1} << 31), op, ": at most 2^31 - 1 columns, got ", p);
  TORCH_CHECK(s >= 1 && segments.front() == 0 && segments.back() == p, op, ": segments must go from 0 to ", p, ", got ",
              segments);
  for (int64_t i = 0; i < s; ++i)
    TORCH_CHECK(segments[i] <= segments[i + 1], op, ": segments must rise, got ", segments);
  check_shape(k, {weights.size(0), s}, op, "k");
  TORCH_CHECK(k.is_contiguous(), op, ": k must be contiguous");
}

// Runs the rows of contiguous `weights` [N, P]. Undefined `mask` or `thresholds` are not computed.
void select_rows(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments, const at::Tensor& mask,
                 const at::Tensor& thresholds, bool prune, const char* op) {
  const SelectRows rows{
      .weights = prune ? weights.mutable_data_ptr() : const_cast<void*>(weights.const_data_ptr()),
      .mask = mask.defined() ? reinterpret_cast<uint8_t*>(mask.mutable_data_ptr<bool>()) : nullptr,
      .thresholds = thresholds.defined() ? thresholds.mutable_data_ptr() : nullptr,
      .k = k.const_data_ptr<int64_t>(),
      .n = weights.size(0),
      .p = weights.size(1),
      .s = k.size(1),
      .infinity = infinity_of(weights.scalar_type(), op),
      .word_size = static_cast<int>(weights.element_size()),
      .prune = prune,
  };
  const Launch launch(weights);
  const int64_t bytes = select_scratch_bytes(rows, segments.data());
  const auto scratch = at::empty({bytes}, weights.options().dtype(at::kByte));
  launch_select(rows, segments.data(), scratch.mutable_data_ptr(), launch.stream());
  launch.check();
}

}  // namespace

at::Tensor magnitude_threshold(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments) {
  check_selection(weights, k, segments, "magnitude_threshold");
  auto thresholds = at::empty(k.sizes(), weights.options());  // [N, S]
  select_rows(weights.contiguous(), k, segments, {}, thresholds, false, "magnitude_threshold");
  return thresholds;
}

at::Tensor magnitude_mask(const at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments) {
  check_selection(weights, k, segments, "magnitude_mask");
  auto mask = at::empty(weights.sizes(), weights.options().dtype(at::kBool));  // [N, P]
  select_rows(weights.contiguous(), k, segments, mask, {}, false, "magnitude_mask");
  return mask;
}

at::Tensor magnitude_prune_(at::Tensor& weights, const at::Tensor& k, at::IntArrayRef segments) {
  check_selection(weights, k, segments, "magnitude_prune_");
  auto mask = at::empty(weights.sizes(), weights.options().dtype(at::kBool));  // [N, P]
  const auto rows = weights.contiguous();                                      // a copy when weights is a strided view
  select_rows(rows, k, segments, mask, {}, true, "magnitude_prune_");
  if (!rows.is_same(weights)) weights.copy_(rows);
  return mask;
}

}  // namespace zoosparse::cuda
