#include "cpu/train_team.h"

#include "cpu/aligned.h"

namespace zoosparse {

TrainTeam::TrainTeam(const TrainParams& params, const TrainPlan& plan, const TrainKernels& kernels)
    : params_(params), plan_(plan), kernels_(kernels) {
  for (int64_t first = 0; first < params.models; first += kernels.lanes)
    groups_.emplace_back(params.samples, params.batch_size);
}

void TrainTeam::work() {
  // Before a group is taken: nothing may fail after, since others wait for its leader.
  const auto own = aligned_floats(plan_.vectors * kernels_.lanes);
  const auto shared = aligned_floats(plan_.shared_vectors * kernels_.lanes);
  for (int64_t g = next_++; g < groups(); g = next_++) {
    ++groups_[g].threads;
    groups_[g].parts.begin(shared.get());
    kernels_.lead(params_, plan_, g * kernels_.lanes, groups_[g].parts, own.get());
  }
  for (int64_t g = groups() - 1; g >= 0; --g)  // those that were taken last have most to do
    if (groups_[g].threads++ < groups_[g].parts.per_batch())
      kernels_.help(params_, plan_, g * kernels_.lanes, groups_[g].parts, own.get());
}

}  // namespace zoosparse
