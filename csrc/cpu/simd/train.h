// Training of one group of models, as many as there are lanes: see train.inl.
#pragma once

#include <cstdint>

#include "common/params.h"
#include "cpu/group_work.h"
#include "cpu/simd/level.h"
#include "cpu/train_plan.h"

namespace zoosparse {

struct TrainKernels {
  int lanes;
  // Works on models [first, first + lanes) (fewer at the end) until they are trained, `preferred` as `work.join` gave
  // it. `own`: the thread's memory, plan.vectors x lanes floats, 64-byte aligned.
  void (*work_on)(const TrainParams& params, const TrainPlan& plan, int64_t first, GroupWork& work, int preferred,
                  float* own);
  // Spends `count` multiply-adds in registers, as fast as they go: the roof. Returns a number to keep them from
  // vanishing.
  float (*multiply_adds)(int64_t count);
};

}  // namespace zoosparse

ZOOSPARSE_KERNELS(TrainKernels, train_kernels)
