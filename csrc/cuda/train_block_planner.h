// Makes the plan of a training on a GPU.
#pragma once

#include <vector>

#include "cuda/train_block_plan.h"

namespace zoosparse {

// Owns what a plan points to. A sample's memory may have up to 2^31 - 1 floats; more throw std::length_error.
class BlockPlanner {
 public:
  BlockPlanner(const std::vector<TrainOp>& program, bool variational);
  const BlockPlan& plan() const { return plan_; }

 private:
  void add(const BlockStage& stage);
  BlockStage convolution(const TrainOp& op, int index, bool pooled);
  BlockStage other(const TrainOp& op, int index);
  BlockStage stage(const TrainOp& op, int index) const;
  void place_gradients();
  int32_t place(int64_t floats);

  BlockPlan plan_{};
  std::vector<BlockStage> stages_;
  int32_t current_ = 0, current_elements_ = 0;  // the activations that the next stage reads
  bool has_weights_ = false;                    // a stage before has weights, so gradients must reach back to it
  bool value_is_needed_ = false;                // by the gradient of the stage that made it: not to be overwritten
};

}  // namespace zoosparse
