// The threads that train a population: what each of them does.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>

#include "common/params.h"
#include "cpu/group_work.h"
#include "cpu/simd/train.h"
#include "cpu/train_plan.h"

namespace zoosparse {

class TrainTeam {
 public:
  TrainTeam(const TrainParams& params, const TrainPlan& plan, const TrainKernels& kernels);

  int64_t most_threads() const { return groups() * groups_.front().pieces(); }

  // Called by any number of threads, together or one after another; when all have returned, the population is trained.
  // A thread begins one group of models after another, and when all are begun, it helps those that are not done.
  void work();

 private:
  void work_on(int64_t group, int preferred, float* own);
  int64_t groups() const { return static_cast<int64_t>(groups_.size()); }

  const TrainParams& params_;
  const TrainPlan& plan_;
  const TrainKernels& kernels_;
  std::deque<GroupWork> groups_;
  std::atomic<int64_t> next_{0};
};

}  // namespace zoosparse
