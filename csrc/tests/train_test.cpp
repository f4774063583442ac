// The training engine without torch: every instruction set against the baseline, and any number of models against the
// same models in other company.
#include <cmath>
#include <cstdlib>
#include <new>
#include <thread>

#include "cpu/simd/train.h"
#include "cpu/train_planner.h"
#include "tests/train_population.h"
#include "tests/variants.h"

ZOOSPARSE_VARIANTS(TrainKernels, train_kernels)

namespace zoosparse::test {
namespace {

void train(Population& population, const TrainKernels& kernels, bool variational) {
  const TrainParams p = population.params(variational);
  const TrainPlanner planner(program(), p, kernels.lanes);
  const size_t floats = static_cast<size_t>(planner.plan().vectors * kernels.lanes);
  // Two threads take turns at the groups, as in the operator; thread sanitizers watch what they share.
  const auto work = [&](int64_t start) {
    float* memory = new (std::align_val_t{64}) float[floats];
    for (int64_t first = start; first < population.n; first += 2 * kernels.lanes)
      kernels.train_group(p, planner.plan(), first, memory);
    ::operator delete[](memory, std::align_val_t{64});
  };
  std::thread other(work, kernels.lanes);
  work(0);
  other.join();
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
