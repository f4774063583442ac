// One group of W models as one thread sees it: memory, and what moves between the models' rows and the lanes.
#pragma once

#include "cpu/group_work.h"
#include "cpu/simd/train_conv.inl"
#include "cpu/simd/train_layers.inl"
#include "cpu/simd/train_optimizer.inl"
#include "cpu/simd/train_random.inl"
#include "cpu/train_plan.h"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// Sums over the samples of a part of a batch.
template <int W>
struct PartResult {
  double loss[W];
  int64_t correct[W];
};

template <int W>
struct Group {
  typedef Floats<W> F;
  typedef Ints<W> I;

  const TrainParams& params;
  const TrainPlan& plan;
  F* shared;  // by the threads that work on the group
  F* own;
  F *weight_gradient = nullptr, *variance_gradient = nullptr;  // what the samples of a part of a batch add to
  int64_t model[W];  // row of each lane; lanes beyond the last model repeat the first and are thrown away
  int active;
  RoundKeys<W> keys;  // of the lanes' random numbers

  Group(const TrainParams& params, const TrainPlan& plan, int64_t first, float* shared, float* own)
      : params(params), plan(plan), shared(reinterpret_cast<F*>(shared)), own(reinterpret_cast<F*>(own)) {
    const int64_t left = params.models - first;
    active = left < W ? static_cast<int>(left) : W;
    Words<W> seeds;
    for (int l = 0; l < W; ++l) {
      model[l] = first + (l < active ? l : 0);
      seeds[l] = static_cast<uint32_t>(params.seeds[model[l]]);
    }
    keys = round_keys<W>(seeds, Words<W>{} + static_cast<uint32_t>(params.seed));
  }

  F* at(int64_t place) const { return own + place; }
  F* shared_at(int64_t place) const { return shared + place; }
  I* winners(const TrainStage& stage) const { return reinterpret_cast<I*>(own + stage.saved); }
  F* saved_derivative(const TrainStage& stage) const {
    return derivative_from_output(stage.op) ? nullptr : at(stage.saved);
  }
  void add_to(int part) {
    weight_gradient = weight_gradient_of(part);
    variance_gradient = variance_gradient_of(part);
  }
  F* weight_gradient_of(int part) const { return shared_at(plan.weight_gradients + part * params.parameters); }
  F* variance_gradient_of(int part) const { return shared_at(plan.variance_gradients + part * params.parameters); }
  PartResult<W>& result_of(int part) const {
    return reinterpret_cast<PartResult<W>*>(shared_at(plan.part_results))[part];
  }
  uint16_t* kept() const { return reinterpret_cast<uint16_t*>(shared + plan.kept); }

  template <class Body>
  void for_matrices(const Body& body) const {
    body(params.weights, plan.weights);
    body(params.moment1, plan.moment1);
    body(params.moment2, plan.moment2);
    if (!plan.variational) return;
    body(params.log_sigma2, plan.log_sigma2);
    body(params.sigma_moment1, plan.sigma_moment1);
    body(params.sigma_moment2, plan.sigma_moment2);
  }

  void load(Range columns) const {
    const int64_t end = columns.first + columns.count;
    for_matrices([&](const float* rows, int64_t place) {
      if (rows == nullptr) return;
      for (int l = 0; l < W; ++l)
        for (int64_t p = columns.first; p < end; ++p) shared_at(place)[p][l] = rows[model[l] * params.parameters + p];
    });
    const int64_t bytes = (params.parameters + 7) / 8;
    for (int64_t p = columns.first; p < end; ++p) {
      unsigned bits = 0xffff;
      if (params.masks != nullptr) {
        bits = 0;
        for (int l = 0; l < W; ++l) bits |= (params.masks[model[l] * bytes + p / 8] >> (p % 8) & 1u) << l;
      }
      kept()[p] = static_cast<uint16_t>(bits);
    }
  }

  void store(Range columns) const {
    for_matrices([&](float* rows, int64_t place) {
      if (rows == nullptr) return;
      for (int l = 0; l < active; ++l)
        for (int64_t p = columns.first; p < columns.first + columns.count; ++p)
          rows[model[l] * params.parameters + p] = shared_at(place)[p][l];
    });
  }

  // The sample at place t of each lane's order.
  void sample_indices(int64_t t, int64_t (&index)[W]) const {
    for (int l = 0; l < W; ++l) index[l] = params.order[model[l] * params.order_stride + t];
  }

  // The input with a border of zeros where the stage pads it.
  const F* padded_input(const TrainStage& stage) const {
    if (stage.padded) {
      for (int i = 0; i < stage.padded_elements; ++i) at(stage.padded_input)[i] = F{};
      for_interior(stage.op, [&](int inner, int padded) { at(stage.padded_input)[padded] = at(stage.input)[inner]; });
    }
    return at(stage.padded_input);
  }

  // Calls body(element of the image, element of the padded image).
  template <class Body>
  static void for_interior(const TrainOp& op, const Body& body) {
    const int height = op.in_height + 2 * op.padding_height, width = op.in_width + 2 * op.padding_width;
    int inner = 0;
    for (int c = 0; c < op.in_channels; ++c)
      for (int y = 0; y < op.in_height; ++y)
        for (int x = 0; x < op.in_width; ++x, ++inner)
          body(inner, (c * height + y + op.padding_height) * width + x + op.padding_width);
  }
};

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
