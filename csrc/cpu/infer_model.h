// A model made ready: per layer dense or sparse, and the taps of its sparse layers.
#pragma once

#include <vector>

#include "cpu/infer_plan.h"

namespace zoosparse {

enum class InferMode : int32_t { automatic, dense, sparse };

class PreparedModel {
 public:
  // `weights` [P] must outlive it.
  PreparedModel(const InferPlan& plan, const float* weights, InferMode mode);
  InferModel view() const { return {weights_, taps_.data(), starts_.data(), sparse_.data()}; }

 private:
  void add_taps(const InferStage& stage);

  const float* weights_;
  std::vector<SparseTap> taps_;
  std::vector<int32_t> starts_;
  std::vector<uint8_t> sparse_;
};

// Whether a convolution of which `kept` weights are not zero runs faster as a list of them.
bool sparse_pays(const InferStage& stage, int64_t kept);

}  // namespace zoosparse
