#include "cuda/train_block_planner.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace zoosparse {
namespace {

bool is_convolution(const TrainOp& op) { return op.kind == OpKind::conv2d || op.kind == OpKind::linear; }
bool is_element_wise(const TrainOp& op) { return op.kind == OpKind::activation || op.kind == OpKind::dropout; }
bool does_nothing(const TrainOp& op) {
  return op.kind == OpKind::flatten || (op.kind == OpKind::activation && op.activation == ActivationKind::identity);
}

bool fits_after_convolution(const TrainOp& op) {
  return op.kind == OpKind::max_pool2d && op.kernel_height == 2 && op.kernel_width == 2 && op.stride_height == 2 &&
         op.stride_width == 2 && op.padding_height == 0 && op.padding_width == 0;
}

int32_t elements(int32_t channels, int32_t height, int32_t width) { return channels * height * width; }

}  // namespace

BlockPlanner::BlockPlanner(const std::vector<TrainOp>& program, bool variational) {
  const TrainOp& first = program.front();
  plan_.variational = variational;
  plan_.image_channels = first.in_channels;
  plan_.image_height = first.in_height;
  plan_.image_width = first.in_width;
  current_elements_ = elements(first.in_channels, first.in_height, first.in_width);
  current_ = plan_.image = place(current_elements_);
  for (size_t i = 0; i < program.size(); ++i) {
    const TrainOp& op = program[i];
    const int index = static_cast<int>(i);
    if (does_nothing(op)) continue;
    if (!is_convolution(op)) {
      add(other(op, index));
      continue;
    }
    const bool pooled = i + 1 < program.size() && fits_after_convolution(program[i + 1]);
    add(convolution(op, index, pooled));
    i += pooled;
  }
  plan_.logits = current_;
  plan_.classes = current_elements_;
  place_gradients();
  plan_.verdict = place(2);
  plan_.move = place(3);
  plan_.sample_floats |= 1;  // neighbouring threads on neighbouring samples use different banks of shared memory
  plan_.stages = stages_.data();
  plan_.count = static_cast<int32_t>(stages_.size());
}

int32_t BlockPlanner::place(int64_t floats) {
  const int64_t at = plan_.sample_floats;
  plan_.sample_floats += floats;
  if (plan_.sample_floats > std::numeric_limits<int32_t>::max())
    throw std::length_error("the activations of one sample take more than 8 GB");
  return static_cast<int32_t>(at);
}

void BlockPlanner::add(const BlockStage& stage) {
  current_ = stage.output;
  current_elements_ = stage.out_elements;
  stages_.push_back(stage);
}

BlockStage BlockPlanner::stage(const TrainOp& op, int index) const {
  BlockStage stage{};
  stage.op = op;
  stage.index = index;
  stage.input = current_;
  stage.in_elements = current_elements_;
  stage.out_elements = elements(op.out_channels, op.out_height, op.out_width);
  stage.needs_input_gradient = has_weights_;
  return stage;
}

BlockStage BlockPlanner::convolution(const TrainOp& op, int index, bool pooled) {
  BlockStage stage = this->stage(op, index);
  stage.taps = op.in_channels * op.kernel_height * op.kernel_width;
  stage.pooled = pooled;
  stage.rows = op.out_height;
  stage.columns = op.out_width;
  if (pooled) {
    stage.rows = op.out_height / 2 * 2;
    stage.columns = op.out_width / 2 * 2;
    stage.out_elements = elements(op.out_channels, op.out_height / 2, op.out_width / 2);
    stage.saved = place((int64_t{stage.out_elements} + 3) / 4);
  }
  stage.output = place(stage.out_elements);
  if (plan_.variational) stage.deviation = place(stage.out_elements);
  has_weights_ = true;
  value_is_needed_ = false;
  return stage;
}

BlockStage BlockPlanner::other(const TrainOp& op, int index) {
  BlockStage stage = this->stage(op, index);
  const bool activation = op.kind == OpKind::activation;
  const bool saves = activation ? !derivative_from_output(op) : op.kind == OpKind::dropout;
  if (saves) stage.saved = place(stage.out_elements);
  if (op.kind == OpKind::max_pool2d) stage.saved = place(stage.out_elements);  // windows may have over 256 places
  const bool in_place = is_element_wise(op) && !value_is_needed_;
  stage.output = in_place ? stage.input : place(stage.out_elements);
  value_is_needed_ = activation && !saves;
  return stage;
}

// Backward goes from one of two places to the other at every stage that is not element-wise.
void BlockPlanner::place_gradients() {
  int64_t size[2] = {current_elements_, 0};
  int now = 0;
  for (auto stage = stages_.rbegin(); stage != stages_.rend() && stage->needs_input_gradient; ++stage) {
    if (is_element_wise(stage->op)) continue;
    now = 1 - now;
    size[now] = std::max<int64_t>(size[now], stage->in_elements);
  }
  for (int i = 0; i < 2; ++i) plan_.gradient[i] = place(size[i]);
}

}  // namespace zoosparse
