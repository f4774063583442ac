// The threads that train a population: what each of them does.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>

#include "cpu/batch_parts.h"
#include "cpu/simd/train.h"
#include "cpu/train_plan.h"
#include "params.h"

namespace zoosparse {

class TrainTeam {
 public:
  TrainTeam(const TrainParams& params, const TrainPlan& plan, const TrainKernels& kernels);

  int64_t most_threads() const { return groups() * groups_.front().parts.per_batch(); }

  // Called by any number of threads, together or one after another; when all have returned, the population is trained.
  // A thread leads one group of models after another, and when all are taken, it helps those that are not done.
  void work();

 private:
  struct Group {
    BatchParts parts;
    std::atomic<int64_t> threads{0};
    Group(int64_t samples, int64_t batch_size) : parts(samples, batch_size) {}
  };
  int64_t groups() const { return static_cast<int64_t>(groups_.size()); }

  const TrainParams& params_;
  const TrainPlan& plan_;
  const TrainKernels& kernels_;
  std::deque<Group> groups_;
  std::atomic<int64_t> next_{0};
};

}  // namespace zoosparse
