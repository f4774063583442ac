// The arguments of infer and infer_scores, checked and settled for the engine of any device.
#pragma once

#include <memory>
#include <vector>

#include "common/infer_planner.h"
#include "common/params.h"
#include "common/tensor.h"

namespace zoosparse {

// What both operators begin with, in the order of their schemas. Weights and images are where the kernels run, the rest
// may lie anywhere.
struct InferTensors {
  static constexpr size_t kFields = 6;

  Tensor weights, program, values, images, mean, std;
};

class InferArguments {
 public:
  // `lanes`: images that the engine takes at a time.
  InferArguments(const char* op, const InferTensors& tensors, int64_t classes, int64_t mode, int lanes);

  Place place() const { return place_of(weights_); }
  int64_t models() const { return weights_.size(0); }
  int64_t parameters() const { return weights_.size(1); }
  int64_t images() const { return images_.size(0); }
  int64_t classes() const { return plan().classes; }
  InferMode mode() const { return mode_; }
  const InferPlan& plan() const { return planner_->plan(); }

  const float* weights() const { return read<float>(weights_); }  // [N, P]
  const Tensor& pixels() const { return images_; }                // [M, C, H, W] uint8 or float32, contiguous
  // float32 [2 C] on the CPU: what the network sees is pixel * scale + shift
  const Tensor& scale_and_shift() const { return scale_and_shift_; }

  // Labels [M] int64 beside the images, contiguous, each below `classes`.
  Tensor check_labels(const Tensor& labels) const;

 private:
  const char* op_;
  Tensor weights_, images_, scale_and_shift_;
  InferMode mode_;
  std::vector<TrainOp> operations_;
  std::unique_ptr<InferPlanner> planner_;
};

// What infer returns: predictions [N, M] uint8, or uint16 of more than 256 classes, whose numbers are whatever was
// there; loss float64 [N] and correct int64 [N], zeros.
struct InferResults {
  explicit InferResults(const InferArguments& arguments);

  Tensor predictions, loss, correct;
};

// What infer_scores returns: float32 [N, M, classes], whose numbers are whatever was there.
Tensor empty_scores(const InferArguments& arguments);

}  // namespace zoosparse
