// What a block of the CUDA engine computes, on the CPU, its threads in turn: against the engine of the CPU.
#include "tests/train_blocks.h"

#include <cstdlib>

#include "cpu/simd/train.h"
#include "cpu/train_planner.h"
#include "cpu/train_team.h"
#include "tests/expect.h"
#include "tests/train_population.h"

namespace zoosparse::test {
namespace {

void train_on_cpu(const std::vector<TrainOp>& ops, const TrainParams& p) {
  const TrainKernels& kernels = baseline::train_kernels;
  const TrainPlanner planner(ops, p, kernels.lanes);
  TrainTeam(p, planner.plan(), kernels).work();
}

bool same_bits(const Population& a, const Population& b) {
  return a.weights == b.weights && a.moment2 == b.moment2 && a.log_sigma2 == b.log_sigma2 && a.loss == b.loss;
}

void test_training(const std::vector<TrainOp>& ops, const char* name, bool variational, OptimizerKind optimizer) {
  constexpr int64_t kModels = 4;
  const auto params = [&](Population& population) {
    TrainParams p = population.params(variational);
    p.optimizer = optimizer;
    return p;
  };
  Population expected(0, kModels);
  train_on_cpu(ops, params(expected));
  for (const int threads : {1, 7, 64, 256})
    for (const int at_once : {1, 3, 4}) {
      Population got(0, kModels), backwards(0, kModels);
      train_in_blocks(got, ops, params(got), {threads, at_once, false, false});
      expect_close(got, expected, name, threads * 10 + at_once);
      train_in_blocks(backwards, ops, params(backwards), {threads, at_once, true, true});
      expect(same_bits(got, backwards), "threads do not meet between barriers", name, threads * 10 + at_once);
    }
}

}  // namespace
}  // namespace zoosparse::test

int main() {
  using namespace zoosparse;
  for (const bool variational : {false, true}) {
    const auto optimizer = variational ? OptimizerKind::adamw : OptimizerKind::sgd;
    for (const auto kind : {OptimizerKind::adam, optimizer, OptimizerKind::rmsprop}) {
      test::test_training(test::program(), variational ? "variational" : "masked", variational, kind);
      test::test_training(test::averaging_program(), variational ? "variational means" : "means", variational, kind);
    }
  }
  return test::failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
