// The training engine on a device against the same code on the host: weights and activations in shared memory and
// outside it, few blocks and many.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cuda/train.h"
#include "cuda/train_block_planner.h"
#include "tests/device.h"
#include "tests/expect.h"
#include "tests/train_blocks.h"
#include "tests/train_population.h"

namespace zoosparse::test {
namespace {

constexpr int64_t kModels = 5;
constexpr cudaStream_t kStream = nullptr;

// A population's arrays on the device.
struct Lent {
  OnDevice<float> weights, moment1, moment2, log_sigma2, sigma1, sigma2, scale, shift;
  OnDevice<uint8_t> images, masks;
  OnDevice<int64_t> labels, seeds, correct;
  OnDevice<int32_t> order;
  OnDevice<double> hyper, factors, loss;

  explicit Lent(const Population& p)
      : weights(p.weights),
        moment1(p.moment1),
        moment2(p.moment2),
        log_sigma2(p.log_sigma2),
        sigma1(p.sigma1),
        sigma2(p.sigma2),
        scale({p.scale, p.scale + 2}),
        shift({p.shift, p.shift + 2}),
        images(p.images),
        masks(p.masks),
        labels(p.labels),
        seeds(p.seeds),
        correct(p.correct),
        order(p.order),
        hyper(p.hyper),
        factors(p.factors),
        loss(p.loss) {}

  TrainParams there(TrainParams p) const {
    p.weights = weights.get(), p.moment1 = moment1.get(), p.moment2 = moment2.get();
    if (p.log_sigma2 != nullptr)
      p.log_sigma2 = log_sigma2.get(), p.sigma_moment1 = sigma1.get(), p.sigma_moment2 = sigma2.get();
    if (p.masks != nullptr) p.masks = masks.get();
    p.images_u8 = images.get(), p.channel_scale = scale.get(), p.channel_shift = shift.get(), p.labels = labels.get();
    p.order = order.get(), p.hyper = hyper.get(), p.lr_factor = factors.get(), p.seeds = seeds.get();
    p.loss_sum = loss.get(), p.correct = correct.get();
    return p;
  }

  void read(Population& p) const {
    p.weights = weights.read(), p.moment1 = moment1.read(), p.moment2 = moment2.read();
    p.log_sigma2 = log_sigma2.read(), p.sigma1 = sigma1.read(), p.sigma2 = sigma2.read();
    p.loss = loss.read(), p.correct = correct.read();
  }
};

// Outside shared memory there is room for all samples of a batch.
cuda::TrainGrid outside(const BlockPlan& plan, const TrainParams& params, cuda::TrainGrid grid) {
  constexpr int64_t kMostThreads = 1024;
  grid.in_shared = false;
  grid.at_once = static_cast<int>(params.batch_size);
  grid.shared_bytes = 0;
  grid.floats =
      4 * params.parameters + partial_floats(kMostThreads, plan.variational) + grid.at_once * plan.sample_floats;
  return grid;
}

void test_training(const std::vector<TrainOp>& ops, const char* name, bool variational, bool in_shared, int64_t most) {
  const BlockPlanner planner(ops, variational);
  Population population(0, kModels), expected(0, kModels);
  const Lent lent(population);
  const TrainParams params = lent.there(population.params(variational));
  BlockPlan plan = planner.plan();
  const OnDevice<BlockStage> stages(std::vector<BlockStage>(plan.stages, plan.stages + plan.count));
  plan.stages = stages.get();
  cuda::TrainGrid grid = cuda::train_grid(plan, params);
  if (!in_shared) grid = outside(plan, params, grid);
  grid.blocks = std::min({grid.blocks, most, kModels});
  const OnDevice<float> scratch(std::vector<float>(static_cast<size_t>(grid.blocks * grid.floats), NAN));
  cuda::launch_train(params, plan, grid, scratch.get(), kStream);
  lent.read(population);

  train_in_blocks(expected, ops, expected.params(variational), {256, grid.at_once, false, false});
  expect_close(population, expected, name, grid.at_once);
}

}  // namespace
}  // namespace zoosparse::test

// With an argument, little enough for compute-sanitizer.
int main(int argc, char**) {
  using namespace zoosparse::test;
  if (!has_device()) return kSkipped;
  for (const bool variational : {false, true})
    for (const bool in_shared : {true, false})
      for (const int64_t blocks : argc > 1 ? std::vector<int64_t>{3} : std::vector<int64_t>{1, 3, 1000}) {
        test_training(program(), variational ? "variational" : "masked", variational, in_shared, blocks);
        test_training(averaging_program(), variational ? "variational means" : "means", variational, in_shared, blocks);
      }
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
