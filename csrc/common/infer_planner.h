// Makes the plan of an inference.
#pragma once

#include <memory>
#include <vector>

#include "common/infer_plan.h"

namespace zoosparse {

// Owns what a plan points to.
class InferPlanner {
 public:
  // Throws std::length_error where a tensor of activations is beyond what byte offsets reach.
  InferPlanner(const std::vector<TrainOp>& program, int lanes);
  const InferPlan& plan() const { return plan_; }

 private:
  struct Tail;  // what follows an operation and is done in its stage

  InferLayout place(int32_t channels, int32_t height, int32_t width, size_t reader);
  InferLayout place(InferLayout layout);
  Tail tail(size_t index, bool may_pool) const;
  size_t add(size_t index);
  void add_copy(const InferLayout& out);
  void make_tables(InferStage& stage);
  const int32_t* keep(std::vector<int32_t> table);

  const std::vector<TrainOp>& program_;
  int lanes_;
  InferPlan plan_{};
  InferLayout current_{};  // the activations that the next stage reads
  std::vector<InferStage> stages_;
  std::vector<std::unique_ptr<std::vector<int32_t>>> tables_;
  int64_t widest_row_ = 0;
};

}  // namespace zoosparse
