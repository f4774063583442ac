#include "common/infer_planner.h"

#include <algorithm>
#include <stdexcept>

namespace zoosparse {
namespace {

bool is_convolution(const TrainOp& op) { return op.kind == OpKind::conv2d || op.kind == OpKind::linear; }

// Evaluation knows no dropout.
bool does_nothing(const TrainOp& op) {
  return op.kind == OpKind::dropout || (op.kind == OpKind::activation && op.activation == ActivationKind::identity);
}

bool is_pool_of_two(const TrainOp& op) {
  return op.kind == OpKind::max_pool2d && op.kernel_height == 2 && op.kernel_width == 2 && op.stride_height == 2 &&
         op.stride_width == 2 && op.padding_height == 0 && op.padding_width == 0;
}

// The largest of the values is then the value of the largest, and the pool may come first.
bool rises(const TrainOp& op) {
  return op.activation != ActivationKind::silu && op.activation != ActivationKind::gelu &&
         (op.activation != ActivationKind::leaky_relu || op.value >= 0);
}

InferLayout plain(int32_t channels, int32_t height, int32_t width) {
  return {channels, height, width, 0, 0, 1, width, width, height * width, 0};
}

// What a convolution wants to read.
InferLayout bordered(const TrainOp& op) {
  InferLayout layout = plain(op.in_channels, op.in_height, op.in_width);
  const int32_t width = op.in_width + 2 * op.padding_width;
  layout.border_y = op.padding_height;
  layout.border_x = op.padding_width;
  layout.stride_x = op.out_width == 1 ? 1 : op.stride_width;  // a single column needs no neighbours
  layout.phase = (width + layout.stride_x - 1) / layout.stride_x;
  layout.row = layout.stride_x * layout.phase;
  layout.plane = layout.row * (op.in_height + 2 * op.padding_height);
  return layout;
}

bool same_form(const InferLayout& a, const InferLayout& b) {
  return a.row == b.row && a.plane == b.plane && a.border_y == b.border_y && a.border_x == b.border_x &&
         a.stride_x == b.stride_x;
}

}  // namespace

struct InferPlanner::Tail {
  const TrainOp* pool = nullptr;
  const TrainOp* activation = nullptr;
  size_t next;  // the first operation after the stage
};

InferPlanner::InferPlanner(const std::vector<TrainOp>& program, int lanes) : program_(program), lanes_(lanes) {
  const TrainOp& first = program.front();
  current_ = plan_.image = place(first.in_channels, first.in_height, first.in_width, 0);
  for (size_t i = 0; i < program.size();) i = add(i);
  if (!same_form(current_, plain(current_.channels, 1, 1))) add_copy(plain(current_.channels, 1, 1));
  plan_.classes = current_.channels;
  plan_.scores = current_.place;
  plan_.scratch = plan_.vectors;
  plan_.vectors += widest_row_;
  plan_.stages = stages_.data();
  plan_.count = static_cast<int32_t>(stages_.size());
}

// Places a tensor as the operation `reader`, or the first after it that does anything, wants it.
InferLayout InferPlanner::place(int32_t channels, int32_t height, int32_t width, size_t reader) {
  while (reader < program_.size() && does_nothing(program_[reader])) ++reader;
  const bool convolution = reader < program_.size() && program_[reader].kind == OpKind::conv2d;
  return place(convolution ? bordered(program_[reader]) : plain(channels, height, width));
}

InferLayout InferPlanner::place(InferLayout layout) {
  const int64_t vectors = static_cast<int64_t>(layout.channels) * layout.plane;
  if (vectors * lanes_ * 4 > INT32_MAX) throw std::length_error("the activations of a layer are too large");
  layout.place = plan_.vectors;
  plan_.vectors += vectors;
  return layout;
}

InferPlanner::Tail InferPlanner::tail(size_t index, bool may_pool) const {
  Tail tail;
  const auto skip = [this](size_t i) {
    while (i < program_.size() && does_nothing(program_[i])) ++i;
    return i;
  };
  const auto pools_at = [&](size_t i) { return may_pool && i < program_.size() && is_pool_of_two(program_[i]); };
  size_t at = skip(index + 1);
  if (pools_at(at)) {
    tail.pool = &program_[at];
    at = skip(at + 1);
  }
  if (at < program_.size() && program_[at].kind == OpKind::activation) {
    tail.activation = &program_[at];
    const size_t after = at = skip(at + 1);
    if (tail.pool == nullptr && pools_at(after) && rises(*tail.activation)) {
      tail.pool = &program_[after];
      at = skip(after + 1);
    }
  }
  tail.next = at;
  return tail;
}

size_t InferPlanner::add(size_t index) {
  const TrainOp& op = program_[index];
  if (does_nothing(op)) return index + 1;
  if (op.kind == OpKind::flatten) {  // an operation before it has left the tensor plain
    const int64_t at = current_.place;
    current_ = plain(op.out_channels, 1, 1);
    current_.place = at;
    return index + 1;
  }
  InferStage stage{};
  stage.op = op;
  stage.pool = 1;
  stage.slope = op.value;
  if (op.kind == OpKind::activation) {
    stage.kind = InferKind::copy;
    stage.activation = op.activation;
    stage.in = current_;
    current_ = stage.out = place(op.out_channels, op.out_height, op.out_width, index + 1);
    make_tables(stage);
    stages_.push_back(stage);
    return index + 1;
  }
  if (is_convolution(op)) {
    if (const InferLayout wanted = bordered(op); !same_form(current_, wanted)) add_copy(wanted);
    stage.kind = InferKind::convolution;
    stage.number = plan_.convolutions++;
    stage.first_channel = plan_.channels;
    plan_.channels += op.out_channels;
  } else {
    stage.kind = op.kind == OpKind::max_pool2d ? InferKind::max_pool : InferKind::average_pool;
  }
  const Tail follows = tail(index, is_convolution(op));
  const TrainOp& last = follows.pool != nullptr ? *follows.pool : op;
  stage.pool = follows.pool != nullptr ? 2 : 1;
  if (follows.activation != nullptr) {
    stage.activation = follows.activation->activation;
    stage.slope = follows.activation->value;
  }
  stage.in = current_;
  current_ = stage.out = place(last.out_channels, last.out_height, last.out_width, follows.next);
  widest_row_ = std::max(widest_row_, static_cast<int64_t>(last.out_channels) * last.out_width);
  make_tables(stage);
  stages_.push_back(stage);
  return follows.next;
}

void InferPlanner::add_copy(const InferLayout& out) {
  InferStage stage{};
  stage.kind = InferKind::copy;
  stage.in = current_;
  current_ = stage.out = place(out);
  make_tables(stage);
  stages_.push_back(stage);
}

void InferPlanner::make_tables(InferStage& stage) {
  std::vector<int32_t> columns;
  for (int32_t x = 0; x < stage.out.width; ++x) columns.push_back(column_of(stage.out, x));
  stage.out_column = keep(std::move(columns));
  if (stage.kind != InferKind::convolution) return;
  const TrainOp& op = stage.op;
  const InferLayout& in = stage.in;
  const int32_t bytes = lanes_ * 4;
  std::vector<int32_t> taps;
  for (int32_t c = 0; c < op.in_channels; ++c)
    for (int32_t y = 0; y < op.kernel_height; ++y)
      for (int32_t x = 0; x < op.kernel_width; ++x)
        taps.push_back((c * in.plane + y * in.row + x % in.stride_x * in.phase + x / in.stride_x) * bytes);
  stage.taps = static_cast<int32_t>(taps.size());
  stage.row_step = static_cast<int64_t>(op.stride_height) * in.row * bytes;
  stage.tap_offset = keep(std::move(taps));
}

const int32_t* InferPlanner::keep(std::vector<int32_t> table) {
  tables_.push_back(std::make_unique<std::vector<int32_t>>(std::move(table)));
  return tables_.back()->data();
}

}  // namespace zoosparse
