#include "cpu/infer_model.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

namespace zoosparse {
namespace {

using Flags = std::vector<uint8_t>;

int64_t count_kept(const InferStage& stage, const float* weight, const Flags& needed) {
  int64_t kept = 0;
  for (const uint8_t counts : needed)
    for (int32_t k = 0; k < stage.taps; ++k, ++weight) kept += counts && *weight != 0.0f;
  return kept;
}

// Input channels that a needed output channel has a weight for.
Flags channels_read(const InferStage& stage, const float* weight, const Flags& needed) {
  Flags read(static_cast<size_t>(stage.op.in_channels));
  const int32_t window = stage.op.kernel_height * stage.op.kernel_width;
  for (const uint8_t counts : needed)
    for (uint8_t& channel : read)
      for (int32_t k = 0; k < window; ++k, ++weight) channel |= counts && *weight != 0.0f;
  return read;
}

// Where a flatten has made channels of single values, a channel before it is needed if any of its values is.
Flags before_flatten(const Flags& needed, int32_t channels) {
  Flags merged(static_cast<size_t>(channels));
  const size_t values = needed.size() / merged.size();
  for (size_t i = 0; i < needed.size(); ++i) merged[i / values] |= needed[i];
  return merged;
}

constexpr double kSafe = 1e30;  // far enough from the largest float for any order of adding

// No sum of a convolution of inputs up to `largest` is larger; infinite where one may overflow or be NaN.
double largest_sum(const InferStage& stage, const float* weights, double largest) {
  const float *weight = weights + stage.op.weight, *bias = stage.op.bias < 0 ? nullptr : weights + stage.op.bias;
  double bound = 0;
  for (int32_t o = 0; o < stage.op.out_channels; ++o) {
    double sum = bias == nullptr ? 0 : std::abs(bias[o]);
    for (int32_t k = 0; k < stage.taps; ++k) sum += std::abs(*weight++) * largest;
    if (!(sum < kSafe)) return HUGE_VAL;
    bound = std::max(bound, sum);
  }
  return bound;
}

}  // namespace

bool sparse_pays(const InferStage& stage, int64_t kept, InferCosts costs) {
  const bool plane = stage.out.height * stage.out.width * stage.pool > 1;
  return (plane ? costs.on_planes : costs.on_one_position) * static_cast<double>(kept) <=
         static_cast<double>(stage.taps) * stage.op.out_channels;
}

bool stays_finite(const InferPlan& plan, const float* weights, double largest_pixel) {
  double largest = largest_pixel;
  for (int32_t s = 0; s < plan.count; ++s) {
    const InferStage& stage = plan.stages[s];
    if (stage.kind == InferKind::convolution) largest = largest_sum(stage, weights, largest);
    largest = std::max(1.0, std::abs(double{stage.slope})) * largest + 1;  // no activation adds more than 1
  }
  return largest < kSafe;
}

PreparedModel::PreparedModel(const InferPlan& plan, const float* weights, double largest_pixel, InferMode mode,
                             InferCosts costs)
    : weights_(weights),
      sparse_(static_cast<size_t>(plan.convolutions)),
      finite_(stays_finite(plan, weights, largest_pixel)) {
  const Flags needed = choose(plan, mode, costs);
  starts_.reserve(static_cast<size_t>(plan.channels) + 1);
  for (int32_t s = 0; s < plan.count; ++s) {
    const InferStage& stage = plan.stages[s];
    if (stage.kind == InferKind::convolution) add_taps(stage, needed.data() + stage.first_channel);
  }
  starts_.push_back(static_cast<int32_t>(taps_.size()));
}

// Settles layer by layer whether it runs dense or sparse, and returns which output channels of the convolutions are
// needed. From the end: what a sparse layer does not read, nobody does; a dense layer multiplies everything, with 0
// too.
std::vector<uint8_t> PreparedModel::choose(const InferPlan& plan, InferMode mode, InferCosts costs) {
  Flags all(static_cast<size_t>(plan.channels)), needed(static_cast<size_t>(plan.classes), 1);
  for (int32_t s = plan.count - 1; s >= 0; --s) {
    const InferStage& stage = plan.stages[s];
    needed = before_flatten(needed, stage.out.channels);
    if (stage.kind != InferKind::convolution) continue;
    std::copy(needed.begin(), needed.end(), all.begin() + stage.first_channel);
    const float* weight = weights_ + stage.op.weight;
    const bool sparse = mode == InferMode::automatic ? sparse_pays(stage, count_kept(stage, weight, needed), costs)
                                                     : mode == InferMode::sparse;
    sparse_[static_cast<size_t>(stage.number)] = sparse;
    needed = sparse ? channels_read(stage, weight, needed) : Flags(static_cast<size_t>(stage.op.in_channels), 1);
  }
  return all;
}

// A channel that is not needed has no taps: it costs what a channel without weights costs, and its values do not count.
void PreparedModel::add_taps(const InferStage& stage, const uint8_t* needed) {
  const float* weight = weights_ + stage.op.weight;
  for (int32_t o = 0; o < stage.op.out_channels; ++o, weight += stage.taps) {
    starts_.push_back(static_cast<int32_t>(taps_.size()));
    if (!sparse_[static_cast<size_t>(stage.number)] || !needed[o]) continue;
    size_t count = taps_.size();
    taps_.resize(count + static_cast<size_t>(stage.taps));
    for (int32_t k = 0; k < stage.taps; ++k) {  // without a branch: nobody can predict which weights are left
      taps_[count] = {stage.tap_offset[k], weight[k]};
      count += weight[k] != 0.0f;
    }
    taps_.resize(count);
  }
}

int32_t PreparedModel::stages_shared_with(const PreparedModel& other, const InferPlan& plan) const {
  int32_t s = 0;
  while (s < plan.count && (plan.stages[s].kind != InferKind::convolution || same_layer(other, plan.stages[s]))) ++s;
  return s;
}

bool PreparedModel::same_layer(const PreparedModel& other, const InferStage& stage) const {
  const auto same = [](const auto* a, const auto* b, int64_t count) {
    return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(*a)) == 0;
  };
  const InferModel a = view(), b = other.view();
  const int32_t channels = stage.op.out_channels;
  if (a.sparse[stage.number] != b.sparse[stage.number]) return false;
  if (stage.op.bias >= 0 && !same(a.weights + stage.op.bias, b.weights + stage.op.bias, channels)) return false;
  if (!a.sparse[stage.number])
    return same(a.weights + stage.op.weight, b.weights + stage.op.weight, int64_t{channels} * stage.taps);
  const int32_t *of_a = a.starts + stage.first_channel, *of_b = b.starts + stage.first_channel;
  for (int32_t o = 0; o < channels; ++o) {
    const int32_t count = of_a[o + 1] - of_a[o];
    if (count != of_b[o + 1] - of_b[o] || !same(a.taps + of_a[o], b.taps + of_b[o], count)) return false;
  }
  return true;
}

}  // namespace zoosparse
