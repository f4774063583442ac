// A model made ready: per layer dense or sparse, and the taps of its sparse layers.
#pragma once

#include <vector>

#include "common/infer_plan.h"

namespace zoosparse {

// Time of a weight in a list over the time of a weight in a dense tile. Planes: both keep the arithmetic busy, the list
// loads more. Single positions: a list has only its own sum to work on. The defaults suit AVX2 and AVX-512 machines.
struct InferCosts {
  double on_planes = 1.35, on_one_position = 2.5;
};

class PreparedModel {
 public:
  // `weights` [P] must outlive it; no pixel that the network sees is larger than `largest_pixel`, which may be
  // infinite.
  PreparedModel(const InferPlan& plan, const float* weights, double largest_pixel, InferMode mode, InferCosts costs);
  InferModel view() const { return {weights_, taps_.data(), starts_.data(), sparse_.data(), finite_}; }

  // How many of the first stages calculate, to the bit, what they do in the other model.
  int32_t stages_shared_with(const PreparedModel& other, const InferPlan& plan) const;

 private:
  std::vector<uint8_t> choose(const InferPlan& plan, InferMode mode, InferCosts costs);
  void add_taps(const InferStage& stage, const uint8_t* needed);
  bool same_layer(const PreparedModel& other, const InferStage& stage) const;

  const float* weights_;
  std::vector<SparseTap> taps_;
  std::vector<int32_t> starts_;
  std::vector<uint8_t> sparse_;
  bool finite_;
};

// Whether no sum of a model of these weights can overflow: bounds, layer by layer, on how large an activation may be.
bool stays_finite(const InferPlan& plan, const float* weights, double largest_pixel);

// Whether a convolution of which `kept` weights are needed and not zero runs faster as a list of them.
bool sparse_pays(const InferStage& stage, int64_t kept, InferCosts costs);

}  // namespace zoosparse
