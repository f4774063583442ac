#include "cpu/train_team.h"

#include "cpu/aligned.h"

namespace zoosparse {

TrainTeam::TrainTeam(const TrainParams& params, const TrainPlan& plan, const TrainKernels& kernels)
    : params_(params), plan_(plan), kernels_(kernels) {
  for (int64_t first = 0; first < params.models; first += kernels.lanes)
    groups_.emplace_back(params.samples, params.batch_size);
}

void TrainTeam::work() {
  // Before a group is taken: nothing may fail after, since others wait for its memory.
  const auto own = aligned_floats(plan_.vectors * kernels_.lanes);
  const auto shared = aligned_floats(plan_.shared_vectors * kernels_.lanes);
  for (int64_t g = next_++; g < groups(); g = next_++) {
    groups_[g].begin(shared.get());
    work_on(g, 0, own.get());
  }
  for (int64_t g = groups() - 1; g >= 0; --g) {  // those that were begun last have most to do
    const int preferred = groups_[g].join();
    if (preferred >= 0) work_on(g, preferred, own.get());
  }
}

void TrainTeam::work_on(int64_t group, int preferred, float* own) {
  kernels_.work_on(params_, plan_, group * kernels_.lanes, groups_[group], preferred, own);
}

}  // namespace zoosparse
