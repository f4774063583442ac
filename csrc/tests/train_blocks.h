// A training as the blocks of a GPU do it, on the host.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "cuda/train_block_planner.h"
#include "cuda/train_block_step.h"
#include "tests/expect.h"
#include "tests/train_population.h"

namespace zoosparse::test {

struct Shape {
  int threads, at_once;
  bool backwards, in_place;  // weights used where the matrix has them
};

// Memory is as large as on the device, and holds rubbish at first.
inline void train_in_blocks(Population& population, const std::vector<TrainOp>& ops, const TrainParams& p,
                            Shape shape) {
  const bool variational = p.log_sigma2 != nullptr;
  const BlockPlanner planner(ops, variational);
  const size_t columns = static_cast<size_t>(p.parameters);
  std::vector<float> weights(columns, NAN), variance(variational ? columns : 0, NAN), gradient(columns, NAN),
      variance_gradient(variational ? columns : 0, NAN);
  std::vector<float> samples(static_cast<size_t>(shape.at_once * planner.plan().sample_floats), NAN);
  std::vector<float> partial(static_cast<size_t>(partial_floats(shape.threads, variational)), NAN);
  BlockState state;
  for (int64_t model = 0; model < population.n; ++model) {
    const BlockMemory memory{shape.in_place ? p.weights + model * p.parameters : weights.data(),
                             variance.data(),
                             samples.data(),
                             partial.data(),
                             gradient.data(),
                             variance_gradient.data(),
                             &state};
    train_block(Block<HostTeam>{{shape.threads, shape.backwards}, p, planner.plan(), memory, model}, shape.at_once);
  }
}

inline void expect_close(const Population& got, const Population& expected, const char* name, long size) {
  // Three steps of float32: sums in another order, times Adam's division.
  expect(distance(got.weights, expected.weights) < 2e-4, "weights", name, size);
  expect(distance(got.moment1, expected.moment1) < 2e-5, "first moments", name, size);
  expect(distance(got.log_sigma2, expected.log_sigma2) < 2e-4, "log sigma^2", name, size);
  expect(distance(got.sigma1, expected.sigma1) < 2e-5, "moments of log sigma^2", name, size);
  for (int64_t m = 0; m < got.n; ++m) {
    expect(std::fabs(got.loss[m] - expected.loss[m]) < 1e-4, "loss", name, m);
    expect(got.correct[m] == expected.correct[m], "right answers", name, m);
  }
}

}  // namespace zoosparse::test
