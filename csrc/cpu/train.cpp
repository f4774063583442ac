// Training steps of a population on the CPU: groups of models go to simd/train.inl.
#include <algorithm>

#include "common/operators.h"
#include "common/parallel.h"
#include "common/train_arguments.h"
#include "cpu/settings.h"
#include "cpu/simd/train.h"
#include "cpu/train_planner.h"
#include "cpu/train_team.h"

namespace zoosparse::cpu {

void multiply_adds(int64_t count) {
  const TrainKernels& kernels = train_kernels();
  const int64_t threads = thread_count();
  parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) kernels.multiply_adds(count / threads);
  });
}

Sums train_steps_(const TrainTensors& tensors) {
  const TrainArguments arguments(tensors);
  const TrainParams& params = arguments.params();
  if (params.models > 0) {
    const TrainKernels& kernels = train_kernels();
    const TrainPlanner planner(arguments.program(), params, kernels.lanes);
    TrainTeam team(params, planner.plan(), kernels);
    // One thread may be given the share of several.
    parallel_for(0, std::min<int64_t>(team.most_threads(), thread_count()), 1, [&](int64_t first, int64_t last) {
      if (first < last) team.work();
    });
  }
  return {arguments.loss_sum(), arguments.correct()};
}

}  // namespace zoosparse::cpu
