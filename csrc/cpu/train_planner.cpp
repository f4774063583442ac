#include "cpu/train_planner.h"

#include <algorithm>

#include "cpu/group_work.h"

namespace zoosparse {
namespace {

// Bytes of a block's output gradients, which weight and input gradients read many times: they stay in L1.
constexpr int64_t kBlockBytes = 24 * 1024;

bool is_convolution(const TrainOp& op) { return op.kind == OpKind::conv2d || op.kind == OpKind::linear; }

bool fits_after_convolution(const TrainOp& op) {
  return op.kind == OpKind::max_pool2d && op.stride_height == op.kernel_height && op.stride_width == op.kernel_width &&
         op.padding_height == 0 && op.padding_width == 0;
}

}  // namespace

TrainPlanner::TrainPlanner(const std::vector<TrainOp>& program, const TrainParams& params, int lanes) : lanes_(lanes) {
  const TrainOp& first = program.front();
  plan_.variational = params.log_sigma2 != nullptr;
  plan_.image_channels = first.in_channels;
  plan_.image_height = first.in_height;
  plan_.image_plane = first.in_height * first.in_width;
  lay_out_parameters(params);
  current_elements_ = plan_.image_channels * plan_.image_plane;
  current_ = plan_.image = place(current_elements_);
  largest_ = current_elements_;
  for (size_t i = 0; i < program.size(); ++i) {
    if (is_convolution(program[i])) {
      const bool pooled = i + 1 < program.size() && fits_after_convolution(program[i + 1]);
      add_convolution(program[i], static_cast<int>(i), pooled ? &program[i + 1] : nullptr);
      i += pooled;
    } else {
      add_other(program[i], static_cast<int>(i));
    }
  }
  plan_.logits = current_;
  plan_.classes = current_elements_;
  for (int64_t& gradient : plan_.gradient) gradient = place(largest_);
  plan_.padded_gradient = place(largest_padded_);
  plan_.squared_gradient = plan_.variational ? place(largest_padded_) : 0;
  plan_.block_mean = place(largest_block_);
  plan_.block_variance = place(largest_block_);
  plan_.stages = stages_.data();
  plan_.count = static_cast<int32_t>(stages_.size());
}

int64_t TrainPlanner::place(int64_t vectors) {
  const int64_t at = plan_.vectors;
  plan_.vectors += vectors;
  return at;
}

int64_t TrainPlanner::place_shared(int64_t vectors) {
  const int64_t at = plan_.shared_vectors;
  plan_.shared_vectors += vectors;
  return at;
}

const int32_t* TrainPlanner::keep(std::vector<int32_t> table) {
  tables_.push_back(std::make_unique<std::vector<int32_t>>(std::move(table)));
  return tables_.back()->data();
}

void TrainPlanner::lay_out_parameters(const TrainParams& params) {
  const int64_t p = params.parameters;
  const int pieces = GroupWork::pieces_of(params.batch_size);
  for (int64_t* matrix : {&plan_.weights, &plan_.moment1, &plan_.moment2}) *matrix = place_shared(p);
  plan_.weight_gradients = place_shared(pieces * p);
  if (plan_.variational) {
    for (int64_t* matrix : {&plan_.log_sigma2, &plan_.sigma_moment1, &plan_.sigma_moment2, &plan_.variance})
      *matrix = place_shared(p);
    plan_.variance_gradients = place_shared(pieces * p);
  }
  plan_.part_results = place_shared(pieces * 4);  // a double and an int64 for each lane
  plan_.kept = place_shared((p * 2 + lanes_ * 4 - 1) / (lanes_ * 4));
}

TrainStage TrainPlanner::stage(const TrainOp& op, int index) const {
  TrainStage stage{};
  stage.op = op;
  stage.index = index;
  stage.input = stage.padded_input = current_;
  stage.in_elements = stage.padded_elements = current_elements_;
  stage.out_elements = op.out_channels * op.out_height * op.out_width;
  stage.pool_height = stage.pool_width = 1;
  stage.needs_input_gradient = has_weights_;
  return stage;
}

void TrainPlanner::add_convolution(const TrainOp& op, int index, const TrainOp* pool) {
  TrainStage stage = this->stage(op, index);
  stage.rows = op.out_height;
  stage.columns = op.out_width;
  if (pool != nullptr) {
    stage.pooled = true;
    stage.pool_height = pool->kernel_height;
    stage.pool_width = pool->kernel_width;
    stage.rows = pool->out_height * pool->kernel_height;
    stage.columns = pool->out_width * pool->kernel_width;
    stage.out_elements = pool->out_channels * pool->out_height * pool->out_width;
    stage.saved = place(stage.out_elements);
  }
  stage.padded = op.padding_height > 0 || op.padding_width > 0;
  if (stage.padded) {
    stage.padded_elements =
        op.in_channels * (op.in_height + 2 * op.padding_height) * (op.in_width + 2 * op.padding_width);
    stage.padded_input = place(stage.padded_elements);
  }
  stage.output = place(stage.out_elements);
  if (plan_.variational) {
    stage.squared = place(stage.padded_elements);
    stage.deviation = place(stage.out_elements);
  }
  make_tables(stage);
  choose_block(stage);
  largest_padded_ = std::max<int64_t>(largest_padded_, stage.padded_elements);
  largest_ = std::max<int64_t>(largest_, stage.out_elements);
  current_ = stage.output;
  current_elements_ = stage.out_elements;
  has_weights_ = true;
  value_is_needed_ = false;
  stages_.push_back(stage);
}

void TrainPlanner::add_other(const TrainOp& op, int index) {
  if (op.kind == OpKind::flatten || (op.kind == OpKind::activation && op.activation == ActivationKind::identity))
    return;
  TrainStage stage = this->stage(op, index);
  const bool activation = op.kind == OpKind::activation, element_wise = activation || op.kind == OpKind::dropout;
  const bool saves =
      activation ? !derivative_from_output(op) : op.kind == OpKind::dropout || op.kind == OpKind::max_pool2d;
  if (saves) stage.saved = place(stage.out_elements);
  const bool in_place = element_wise && !value_is_needed_;
  stage.output = in_place ? stage.input : place(stage.out_elements);
  largest_ = std::max<int64_t>(largest_, stage.out_elements);
  current_ = stage.output;
  current_elements_ = stage.out_elements;
  value_is_needed_ = activation && !saves;
  stages_.push_back(stage);
}

void TrainPlanner::make_tables(TrainStage& stage) {
  const TrainOp& op = stage.op;
  const int32_t bytes = lanes_ * 4;
  const int32_t width = op.in_width + 2 * op.padding_width, plane = (op.in_height + 2 * op.padding_height) * width;
  stage.taps = op.in_channels * op.kernel_height * op.kernel_width;
  std::vector<int32_t> taps, positions;
  for (int32_t c = 0; c < op.in_channels; ++c)
    for (int32_t y = 0; y < op.kernel_height; ++y)
      for (int32_t x = 0; x < op.kernel_width; ++x) taps.push_back((c * plane + y * width + x) * bytes);
  for (int32_t y = 0; y < stage.rows; ++y)
    for (int32_t x = 0; x < stage.columns; ++x)
      positions.push_back((y * op.stride_height * width + x * op.stride_width) * bytes);
  stage.tap_offset = keep(std::move(taps));
  stage.position_offset = keep(std::move(positions));
}

void TrainPlanner::choose_block(TrainStage& stage) {
  const int64_t pool_row = static_cast<int64_t>(stage.op.out_channels) * stage.columns * stage.pool_height * lanes_ * 4;
  const int32_t pool_rows = std::max(1, stage.rows / stage.pool_height);
  const int64_t fitting = std::clamp<int64_t>(kBlockBytes / std::max<int64_t>(1, pool_row), 1, pool_rows);
  const int64_t blocks = (pool_rows + fitting - 1) / fitting;
  stage.block_rows = static_cast<int32_t>((pool_rows + blocks - 1) / blocks) * stage.pool_height;
  largest_block_ =
      std::max<int64_t>(largest_block_, static_cast<int64_t>(stage.op.out_channels) * stage.block_rows * stage.columns);
}

}  // namespace zoosparse
