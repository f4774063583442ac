#include "common/program_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <sstream>
#include <stdexcept>

namespace zoosparse {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 24;  // of one tensor, so that byte offsets of 16 lanes fit in 31 bits
constexpr int64_t kMostWeights = (int64_t{1} << 31) - 1;  // of one layer, whose places in it are 32 bits
constexpr int64_t kMostOperations = int64_t{1} << 16;     // the number of a random stream holds 16 bits of the index

template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

// Of factors of at least 1.
bool product_within(int64_t limit, std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (const int64_t factor : factors) {
    if (factor > limit / product) return false;
    product *= factor;
  }
  return true;
}

// [first, first + size) lies in [0, end); size and end are at least 0.
bool range_within(int64_t end, int64_t first, int64_t size) { return first >= 0 && size <= end && first <= end - size; }

constexpr std::array<const char*, kWeight> kNames{
    "kind",          "in_channels",  "in_height",     "in_width",     "out_channels",   "out_height",   "out_width",
    "kernel_height", "kernel_width", "stride_height", "stride_width", "padding_height", "padding_width"};

// Nothing that is computed of a row can overflow after this.
void check_sizes(const int64_t* row, int64_t index) {
  for (int field = kInChannels; field <= kPaddingWidth; ++field) {
    const int64_t least = field < kPaddingHeight ? 1 : 0;
    if (row[field] < least || row[field] > kMostElements)
      refuse("operation ", index, " has ", kNames[static_cast<size_t>(field)], " = ", row[field], "; expected ", least,
             " to ", kMostElements);
  }
  const int64_t height = row[kInHeight] + 2 * row[kPaddingHeight], width = row[kInWidth] + 2 * row[kPaddingWidth];
  if (!product_within(kMostElements, {row[kInChannels], height, width}) ||
      !product_within(kMostElements, {row[kOutChannels], row[kOutHeight], row[kOutWidth]}))
    refuse("operation ", index, " is too large: its input with padding and its output may have ", kMostElements,
           " elements");
}

TrainOp decode(const int64_t* row, double value, double clamp) {
  const auto number = [row](ProgramField field) { return static_cast<int32_t>(row[field]); };
  TrainOp op{};
  op.kind = static_cast<OpKind>(number(kKind));
  op.in_channels = number(kInChannels), op.in_height = number(kInHeight), op.in_width = number(kInWidth);
  op.out_channels = number(kOutChannels), op.out_height = number(kOutHeight), op.out_width = number(kOutWidth);
  op.kernel_height = number(kKernelHeight), op.kernel_width = number(kKernelWidth);
  op.stride_height = number(kStrideHeight), op.stride_width = number(kStrideWidth);
  op.padding_height = number(kPaddingHeight), op.padding_width = number(kPaddingWidth);
  op.weight = row[kWeight], op.bias = row[kBias];
  op.activation = static_cast<ActivationKind>(number(kActivation));
  op.weight_frozen = (row[kFrozen] & 1) != 0, op.bias_frozen = (row[kFrozen] & 2) != 0;
  op.value = static_cast<float>(value);
  op.clamp = static_cast<float>(clamp);
  return op;
}

// A window that is larger than what it slides over gives nothing; the division alone would say one or more.
bool gives(int32_t output, int32_t size, int32_t kernel, int32_t stride, int32_t padding) {
  const int32_t rest = size + 2 * padding - kernel;
  return rest >= 0 && output == rest / stride + 1;
}

bool window_fits(const TrainOp& op) {
  return gives(op.out_height, op.in_height, op.kernel_height, op.stride_height, op.padding_height) &&
         gives(op.out_width, op.in_width, op.kernel_width, op.stride_width, op.padding_width);
}

bool same_channels(const TrainOp& op) { return op.in_channels == op.out_channels; }
bool not_padded(const TrainOp& op) { return op.padding_height == 0 && op.padding_width == 0; }

// The output shape is the one that the operation has on its input shape.
bool consistent(const TrainOp& op) {
  const bool same_plane = op.in_height == op.out_height && op.in_width == op.out_width;
  const bool flat_output = op.out_height == 1 && op.out_width == 1;
  switch (op.kind) {
    case OpKind::conv2d:
      return window_fits(op);
    case OpKind::linear:
      return flat_output && op.in_height == 1 && op.in_width == 1 && op.kernel_height == 1 && op.kernel_width == 1 &&
             not_padded(op);
    case OpKind::max_pool2d:
      return same_channels(op) && window_fits(op) && 2 * op.padding_height <= op.kernel_height &&
             2 * op.padding_width <= op.kernel_width;
    case OpKind::avg_pool2d:
      return same_channels(op) && window_fits(op) && not_padded(op);
    case OpKind::global_avg_pool2d:
      return same_channels(op) && flat_output && op.kernel_height == op.in_height && op.kernel_width == op.in_width &&
             not_padded(op);
    case OpKind::flatten:
      return flat_output && op.out_channels == op.in_channels * op.in_height * op.in_width;
    default:
      return same_channels(op) && same_plane;
  }
}

bool has_weights(const TrainOp& op) { return op.kind == OpKind::conv2d || op.kind == OpKind::linear; }

int64_t weights_of(const TrainOp& op) {
  return int64_t{op.out_channels} * op.in_channels * op.kernel_height * op.kernel_width;
}

void check_columns(const TrainOp& op, int64_t index, int64_t p) {
  if (!product_within(kMostWeights, {op.out_channels, op.in_channels, op.kernel_height, op.kernel_width}))
    refuse("operation ", index, " has more than ", kMostWeights, " weights");
  if (!range_within(p, op.weight, weights_of(op)) || (op.bias != -1 && !range_within(p, op.bias, op.out_channels)))
    refuse("operation ", index, " uses columns beyond the ", p, " of the weights");
}

void check_values(const TrainOp& op, int64_t index, double value, double clamp) {
  if (std::isfinite(value) && !std::isfinite(op.value))
    refuse("operation ", index, " has the value ", value, ", which no float32 holds");
  if (op.kind == OpKind::dropout && !(op.value >= 0 && op.value < 1))
    refuse("operation ", index, " drops at a rate of ", value, "; expected one in [0, 1)");
  if (!(op.clamp >= 0)) refuse("operation ", index, " has a clamp of ", clamp, "; expected 0 or more");
}

}  // namespace

std::vector<TrainOp> decode_program(const ProgramTable& table) {
  if (table.length < 1) refuse("the program is empty");
  if (table.length > kMostOperations)
    refuse("the program has ", table.length, " operations; expected at most ", kMostOperations);
  std::array<int64_t, 3> shape{table.image_channels, table.image_height, table.image_width};
  std::vector<TrainOp> ops;
  for (int64_t i = 0; i < table.length; ++i) {
    const int64_t* row = table.rows + i * kProgramColumns;
    if (row[kKind] < 0 || row[kKind] > static_cast<int64_t>(OpKind::global_avg_pool2d) || row[kActivation] < 0 ||
        row[kActivation] > static_cast<int64_t>(ActivationKind::gelu))
      refuse("operation ", i, " is of unknown kind ", row[kKind], " or activation ", row[kActivation]);
    if (row[kFrozen] < 0 || row[kFrozen] > 3)
      refuse("operation ", i, " has frozen = ", row[kFrozen], "; expected 0: nothing, 1: weight, 2: bias, 3: both");
    check_sizes(row, i);
    const double clamp = table.clamp != nullptr ? table.clamp[i] : 10.0;
    const TrainOp op = decode(row, table.values[i], clamp);
    if (!std::equal(shape.begin(), shape.end(), row + kInChannels) || !consistent(op))
      refuse("operation ", i, " has other shapes than what comes before it gives, or than its own sizes give");
    if (has_weights(op)) check_columns(op, i, table.parameters);
    check_values(op, i, table.values[i], clamp);
    std::copy_n(row + kOutChannels, 3, shape.begin());
    ops.push_back(op);
  }
  if (std::none_of(ops.begin(), ops.end(), has_weights)) refuse("the program has no weights");
  if (shape[1] != 1 || shape[2] != 1)
    refuse("the program must end in one score per class, got [", shape[0], ", ", shape[1], ", ", shape[2], "]");
  return ops;
}

void check_own_columns(const std::vector<TrainOp>& program) {
  std::vector<std::array<int64_t, 3>> used;  // first column, end, operation
  for (size_t i = 0; i < program.size(); ++i) {
    const TrainOp& op = program[i];
    const auto index = static_cast<int64_t>(i);
    if (!has_weights(op)) continue;
    used.push_back({op.weight, op.weight + weights_of(op), index});
    if (op.bias >= 0) used.push_back({op.bias, op.bias + op.out_channels, index});
  }
  std::sort(used.begin(), used.end());
  for (size_t i = 1; i < used.size(); ++i) {
    if (used[i][0] >= used[i - 1][1]) continue;
    const auto [first, second] = std::minmax(used[i - 1][2], used[i][2]);
    refuse("operations ", first, " and ", second, " share column ", used[i][0],
           " of the weights; training needs columns of their own");
  }
}

}  // namespace zoosparse
