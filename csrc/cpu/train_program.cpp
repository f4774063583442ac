#include "cpu/train_program.h"

#include "checks.h"

namespace zoosparse::cpu {
namespace {

constexpr int64_t kColumns = 18;
constexpr int64_t kMostElements = int64_t{1} << 24;  // of one tensor, so that byte offsets of 16 lanes fit in 31 bits

int64_t window_output(int64_t size, int64_t kernel, int64_t stride, int64_t padding) {
  return (size + 2 * padding - kernel) / stride + 1;
}

TrainOp decode(const int64_t* row, double value, double clamp) {
  const auto number = [row](int column) { return static_cast<int32_t>(row[column]); };
  TrainOp op{};
  op.kind = static_cast<OpKind>(number(0));
  op.in_channels = number(1), op.in_height = number(2), op.in_width = number(3);
  op.out_channels = number(4), op.out_height = number(5), op.out_width = number(6);
  op.kernel_height = number(7), op.kernel_width = number(8);
  op.stride_height = number(9), op.stride_width = number(10);
  op.padding_height = number(11), op.padding_width = number(12);
  op.weight = row[13], op.bias = row[14];
  op.activation = static_cast<ActivationKind>(number(15));
  op.value = static_cast<float>(value);
  op.clamp = static_cast<float>(clamp);
  return op;
}

void check_sizes(const char* caller, const int64_t* row, int64_t index) {
  for (int column = 1; column <= 10; ++column)
    TORCH_CHECK(row[column] >= 1 && row[column] <= kMostElements, caller, ": operation ", index, " has ", row[column],
                " in column ", column, " of the program; sizes lie between 1 and ", kMostElements);
  const int64_t padded = row[1] * (row[2] + 2 * row[11]) * (row[3] + 2 * row[12]), out = row[4] * row[5] * row[6];
  TORCH_CHECK(row[11] >= 0 && row[12] >= 0 && row[11] < kMostElements && row[12] < kMostElements &&
                  padded <= kMostElements && out <= kMostElements,
              caller, ": operation ", index, " is too large, or its padding is negative");
}

bool window_fits(const TrainOp& op) {
  return op.out_height == window_output(op.in_height, op.kernel_height, op.stride_height, op.padding_height) &&
         op.out_width == window_output(op.in_width, op.kernel_width, op.stride_width, op.padding_width);
}

bool same_channels(const TrainOp& op) { return op.in_channels == op.out_channels; }

// The output shape is the one that the operation has on its input shape.
bool consistent(const TrainOp& op) {
  const bool same_plane = op.in_height == op.out_height && op.in_width == op.out_width;
  const bool flat_output = op.out_height == 1 && op.out_width == 1;
  switch (op.kind) {
    case OpKind::conv2d:
      return window_fits(op);
    case OpKind::linear:
      return flat_output && op.in_height == 1 && op.in_width == 1 && window_fits(op) && op.kernel_height == 1 &&
             op.kernel_width == 1;
    case OpKind::max_pool2d:
      return same_channels(op) && window_fits(op) && 2 * op.padding_height <= op.kernel_height &&
             2 * op.padding_width <= op.kernel_width;
    case OpKind::avg_pool2d:
      return same_channels(op) && window_fits(op) && op.padding_height == 0 && op.padding_width == 0;
    case OpKind::global_avg_pool2d:
      return same_channels(op) && flat_output && op.kernel_height == op.in_height && op.kernel_width == op.in_width &&
             op.padding_height == 0 && op.padding_width == 0;
    case OpKind::flatten:
      return flat_output && op.out_channels == op.in_channels * op.in_height * op.in_width;
    default:
      return same_channels(op) && same_plane;
  }
}

void check_columns(const char* caller, const TrainOp& op, int64_t index, int64_t p) {
  const int64_t size = int64_t{op.out_channels} * op.in_channels * op.kernel_height * op.kernel_width;
  TORCH_CHECK(op.weight >= 0 && op.weight + size <= p && op.bias >= -1 && op.bias + op.out_channels <= p, caller,
              ": operation ", index, " uses columns beyond the ", p, " of the weights");
}

}  // namespace

std::vector<TrainOp> decode_program(const char* caller, const at::Tensor& program, const at::Tensor& values,
                                    const at::Tensor& clamp, at::IntArrayRef image_shape, int64_t p) {
  check_dtype(program, at::kLong, caller, "program");
  check_dtype(values, at::kDouble, caller, "values");
  const int64_t length = program.dim() == 2 ? program.size(0) : 0;
  TORCH_CHECK(length > 0, caller, ": the program is empty, or no table: shape ", program.sizes());
  check_shape(program, {length, kColumns}, caller, "program");
  check_shape(values, {length}, caller, "values");
  const auto rows = program.contiguous(), numbers = values.contiguous(), bounds = clamp.contiguous();
  std::vector<int64_t> shape(image_shape.begin(), image_shape.end());
  std::vector<TrainOp> ops;
  bool has_weights = false;
  for (int64_t i = 0; i < length; ++i) {
    const int64_t* row = rows.const_data_ptr<int64_t>() + i * kColumns;
    TORCH_CHECK(row[0] >= 0 && row[0] <= static_cast<int64_t>(OpKind::global_avg_pool2d) && row[15] >= 0 &&
                    row[15] <= static_cast<int64_t>(ActivationKind::gelu),
                caller, ": operation ", i, " is of unknown kind ", row[0], " or activation ", row[15]);
    check_sizes(caller, row, i);
    const TrainOp op = decode(row, numbers.const_data_ptr<double>()[i],
                              bounds.numel() > 0 ? bounds.const_data_ptr<double>()[i] : 10.0);
    TORCH_CHECK(std::equal(shape.begin(), shape.end(), row + 1) && consistent(op), caller, ": operation ", i,
                " has other shapes than what comes before it gives, or than its own sizes give");
    if (op.kind == OpKind::conv2d || op.kind == OpKind::linear) {
      check_columns(caller, op, i, p);
      has_weights = true;
    }
    shape.assign(row + 4, row + 7);
    ops.push_back(op);
  }
  TORCH_CHECK(has_weights, caller, ": the program has no weights");
  TORCH_CHECK(shape[1] == 1 && shape[2] == 1, caller, ": the program must end in one score per class, got ",
              at::IntArrayRef(shape));
  return ops;
}

}  // namespace zoosparse::cpu
