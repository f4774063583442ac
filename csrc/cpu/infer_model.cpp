#include "cpu/infer_model.h"

#include <cstddef>

namespace zoosparse {
namespace {

// Time of a weight in a list over the time of a weight in a dense tile, measured with benchmarks/evaluate.py. Planes:
// both keep the arithmetic busy, the list loads more. Single positions: a list has only its own sum to work on.
constexpr double kCostOnPlanes = 1.15, kCostOnOnePosition = 2.0;

int64_t count_kept(const float* weights, int64_t size) {
  int64_t kept = 0;
  for (int64_t i = 0; i < size; ++i) kept += weights[i] != 0.0f;
  return kept;
}

}  // namespace

bool sparse_pays(const InferStage& stage, int64_t kept) {
  const double cost = stage.out.height * stage.out.width * stage.pool > 1 ? kCostOnPlanes : kCostOnOnePosition;
  return cost * static_cast<double>(kept) <= static_cast<double>(stage.taps) * stage.op.out_channels;
}

PreparedModel::PreparedModel(const InferPlan& plan, const float* weights, InferMode mode) : weights_(weights) {
  starts_.reserve(static_cast<size_t>(plan.channels) + 1);
  for (int32_t s = 0; s < plan.count; ++s) {
    const InferStage& stage = plan.stages[s];
    if (stage.kind != InferKind::convolution) continue;
    const int64_t size = static_cast<int64_t>(stage.taps) * stage.op.out_channels;
    const bool sparse = mode == InferMode::automatic ? sparse_pays(stage, count_kept(weights + stage.op.weight, size))
                                                     : mode == InferMode::sparse;
    sparse_.push_back(sparse);
    if (sparse)
      add_taps(stage);
    else
      starts_.insert(starts_.end(), static_cast<size_t>(stage.op.out_channels), static_cast<int32_t>(taps_.size()));
  }
  starts_.push_back(static_cast<int32_t>(taps_.size()));
}

void PreparedModel::add_taps(const InferStage& stage) {
  const float* weight = weights_ + stage.op.weight;
  for (int32_t o = 0; o < stage.op.out_channels; ++o) {
    starts_.push_back(static_cast<int32_t>(taps_.size()));
    for (int32_t k = 0; k < stage.taps; ++k, ++weight)
      if (*weight != 0.0f) taps_.push_back({stage.tap_offset[k], *weight});
  }
}

}  // namespace zoosparse
