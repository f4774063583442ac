#include "common/magnitude_arguments.h"

#include "common/checks.h"

namespace zoosparse {
namespace {

int64_t infinity_of(const Tensor& weights, const char* op) {
  const int32_t type = type_of(weights);
  if (type == aoti_torch_dtype_float32()) return 0x7f800000;
  if (type == aoti_torch_dtype_float64()) return 0x7ff0000000000000;
  if (type == aoti_torch_dtype_float16()) return 0x7c00;
  if (type == aoti_torch_dtype_bfloat16()) return 0x7f80;
  refuse(op, ": weights must be float32, float64, float16 or bfloat16, got ", name_of_type(weights));
}

}  // namespace

SelectArguments::SelectArguments(const char* op, const Tensor& weights, const Tensor& k, Ints segments,
                                 int64_t dimensions)
    : op_(op), weights_(weights), segments_(segments) {
  check_matrix(weights, op, "weights");
  check_type(k, ScalarType::Long, op, "k");
  check_place(k, place(), op, "k");
  const int64_t p = weights.size(1), s = segment_count();
  check(p < (int64_t{1} << 31), op, ": at most 2^31 - 1 columns, got ", p);  // lanes count in 32 bits
  if (s < 1 || segments[0] != 0 || segments[static_cast<size_t>(s)] != p)
    refuse(op, ": segments must go from 0 to ", p, ", got ", text_of(segments));
  for (size_t i = 0; i + 1 < segments.size(); ++i)
    if (segments[i] > segments[i + 1]) refuse(op, ": segments must rise, got ", text_of(segments));
  if (k.dim() != dimensions || k.size(-2) != weights.size(0) || k.size(-1) != s)
    refuse(op, ": k must be ", dimensions == 3 ? "[K, " : "[", weights.size(0), ", ", s, "], got ", text_of(k.sizes()));
  infinity_ = infinity_of(weights, op);
  word_size_ = static_cast<int>(weights.element_size());
  k_ = contiguous(k);
  rows_ = contiguous(weights);
}

void SelectArguments::check_counts() const {
  const int64_t s = segment_count(), n = models();
  const int64_t* count = k();
  for (int64_t row = 0, rows = k_.numel() / s; row < rows; ++row)
    for (int64_t i = 0; i < s; ++i, ++count) {
      const int64_t width = segments()[i + 1] - segments()[i];
      if (*count < 0 || *count > width)
        refuse(op_, ": k = ", *count, " in row ", row % n, s > 1 ? " for segment " + std::to_string(i) : "",
               ", but it must lie between 0 and the ", width, " weights that are there");
    }
}

Tensor SelectArguments::empty_thresholds() const { return empty_of_type(k_.sizes(), type_of(weights_), place()); }

Tensor SelectArguments::empty_mask() const { return empty(weights_.sizes(), ScalarType::Bool, place()); }

Tensor SelectArguments::empty_packed_masks() const {
  return empty({masks(), models(), (parameters() + 7) / 8}, ScalarType::Byte, place());
}

void SelectArguments::write_back() const {
  if (!weights_.is_contiguous()) copy(rows_, weights_);
}

}  // namespace zoosparse
