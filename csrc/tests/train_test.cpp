// The training engine without torch: every instruction set against the baseline, and any number of models against the
// same models in other company.
#include <cmath>
#include <cstdlib>
#include <thread>
#include <vector>

#include "cpu/simd/train.h"
#include "cpu/train_planner.h"
#include "cpu/train_team.h"
#include "tests/train_population.h"
#include "tests/variants.h"

ZOOSPARSE_VARIANTS(TrainKernels, train_kernels)

namespace zoosparse::test {
namespace {

void train(const TrainKernels& kernels, const TrainParams& p, int threads = 2) {
  const TrainPlanner planner(program(), p, kernels.lanes);
  TrainTeam team(p, planner.plan(), kernels);
  std::vector<std::thread> others;  // thread sanitizers watch what they share
  for (int i = 1; i < threads; ++i) others.emplace_back([&] { team.work(); });
  team.work();
  for (std::thread& other : others) other.join();
}

void train(Population& population, const TrainKernels& kernels, bool variational) {
  train(kernels, population.params(variational));
}

// Batches of 80, 80 and 10 samples, so that as many threads as possible share a group.
Population trained_by(int threads, const TrainKernels& kernels, bool variational) {
  constexpr int64_t kModels = 17, kLong = 170;
  Population population(0, kModels);
  std::vector<int32_t> order;
  for (int64_t t = 0; t < kModels * kLong; ++t)
    order.push_back(static_cast<int32_t>(scramble(static_cast<uint32_t>(t)) % kImages));
  TrainParams p = population.params(variational);
  p.order = order.data(), p.order_stride = p.samples = kLong, p.batch_size = 80;
  train(kernels, p, threads);
  return population;
}

void test_variants(bool variational) {
  Population expected(0, 17);
  train(expected, baseline::train_kernels, variational);
  for (const auto& variant : variants()) {
    Population got(0, 17);
    train(got, *variant.table, variational);
    // Three steps of float32: what a fused multiply-add rounds otherwise, times Adam's division.
    expect(distance(got.weights, expected.weights) < 2e-4, "weights", variant.name, 17);
    expect(std::fabs(got.loss[16] - expected.loss[16]) < 1e-4, "loss", variant.name, 17);
    for (int64_t n : {1, 3, 5, 8, 15, 16}) {
      Population part(1, n);
      train(part, *variant.table, variational);
      for (int64_t i = 0; i < n * kParameters; ++i)
        if (part.weights[i] != got.weights[kParameters + i]) {
          expect(false, "the same bits in other company", variant.name, n);
          break;
        }
    }
    const Population alone = trained_by(1, *variant.table, variational);
    for (int threads : {2, 3, 11}) {
      const Population shared = trained_by(threads, *variant.table, variational);
      expect(shared.weights == alone.weights && shared.loss == alone.loss && shared.correct == alone.correct,
             "the same bits on any number of threads", variant.name, threads);
    }
    if (variational) continue;
    for (int64_t i = 0; i < kParameters; ++i)
      if (i % 8 == 5) expect(got.weights[i] == 0 && got.moment2[i] == 0, "pruned weights", variant.name, i);
  }
}

}  // namespace
}  // namespace zoosparse::test

int main() {
  zoosparse::test::test_variants(false);
  zoosparse::test::test_variants(true);
  return zoosparse::test::failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
