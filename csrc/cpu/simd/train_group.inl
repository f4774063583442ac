// One group of W models as one thread sees it: memory, and what moves between the models' rows and the lanes.
#pragma once

#include "cpu/simd/train_conv.inl"
#include "cpu/simd/train_layers.inl"
#include "cpu/simd/train_optimizer.inl"
#include "cpu/simd/train_random.inl"
#include "cpu/train_plan.h"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

template <int W>
struct Group {
  typedef Floats<W> F;
  typedef Ints<W> I;

  const TrainParams& params;
  const TrainPlan& plan;
  F* shared;  // by the threads that work on the group
  F* own;
  F *weight_gradient, *variance_gradient;  // what a part of a batch adds to
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
    return derivative_from_output(stage.op.activation) ? nullptr : at(stage.saved);
  }
  // The first part of a batch adds to the sum itself.
  void add_to(bool sum) {
    weight_gradient = sum ? shared_at(plan.weight_gradient_sum) : at(plan.weight_gradient);
    variance_gradient = sum ? shared_at(plan.variance_gradient_sum) : at(plan.variance_gradient);
  }
  uint16_t* kept() const { return reinterpret_cast<uint16_t*>(shared + plan.kept); }

  void load_matrix(const float* rows, int64_t place) const {
    if (rows == nullptr) return;
    for (int l = 0; l < W; ++l)
      for (int64_t p = 0; p < params.parameters; ++p) shared_at(place)[p][l] = rows[model[l] * params.parameters + p];
  }

  void store_matrix(float* rows, int64_t place) const {
    if (rows == nullptr) return;
    for (int l = 0; l < active; ++l)
      for (int64_t p = 0; p < params.parameters; ++p) rows[model[l] * params.parameters + p] = shared_at(place)[p][l];
  }

  void load() const {
    load_matrix(params.weights, plan.weights);
    load_matrix(params.moment1, plan.moment1);
    load_matrix(params.moment2, plan.moment2);
    if (plan.variational) {
      load_matrix(params.log_sigma2, plan.log_sigma2);
      load_matrix(params.sigma_moment1, plan.sigma_moment1);
      load_matrix(params.sigma_moment2, plan.sigma_moment2);
    }
    for (int64_t p = 0; p < params.parameters; ++p) kept()[p] = 0xffff;
    if (params.masks == nullptr) return;
    const int64_t bytes = (params.parameters + 7) / 8;
    for (int64_t p = 0; p < params.parameters; ++p) {
      unsigned bits = 0;
      for (int l = 0; l < W; ++l) bits |= (params.masks[model[l] * bytes + p / 8] >> (p % 8) & 1u) << l;
      kept()[p] = static_cast<uint16_t>(bits);
    }
  }

  void store() const {
    store_matrix(params.weights, plan.weights);
    store_matrix(params.moment1, plan.moment1);
    store_matrix(params.moment2, plan.moment2);
    if (plan.variational) {
      store_matrix(params.log_sigma2, plan.log_sigma2);
      store_matrix(params.sigma_moment1, plan.sigma_moment1);
      store_matrix(params.sigma_moment2, plan.sigma_moment2);
    }
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
