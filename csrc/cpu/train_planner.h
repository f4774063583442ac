// Makes the plan of a training.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/train_plan.h"

namespace zoosparse {

// Owns what a plan points to.
class TrainPlanner {
 public:
  TrainPlanner(const std::vector<TrainOp>& program, const TrainParams& params, int lanes);
  const TrainPlan& plan() const { return plan_; }

 private:
  void add_convolution(const TrainOp& op, int index, const TrainOp* pool);
  void add_other(const TrainOp& op, int index);
  TrainStage stage(const TrainOp& op, int index) const;
  void make_tables(TrainStage& stage);
  void choose_block(TrainStage& stage);
  void lay_out_parameters(const TrainParams& params);
  int64_t place(int64_t vectors);
  int64_t place_shared(int64_t vectors);
  const int32_t* keep(std::vector<int32_t> table);

  int lanes_;
  TrainPlan plan_{};
  std::vector<TrainStage> stages_;
  std::vector<std::unique_ptr<std::vector<int32_t>>> tables_;
  int64_t current_ = 0;  // place of the activations that the next stage reads
  int32_t current_elements_ = 0;
  bool has_weights_ = false;      // a stage before has weights, so gradients must reach back to it
  bool value_is_needed_ = false;  // by the gradient of the stage that made it: not to be overwritten
  int64_t largest_ = 0, largest_padded_ = 0, largest_block_ = 0;
};

}  // namespace zoosparse
