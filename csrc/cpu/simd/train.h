// Training of one group of models, as many as there are lanes: see train.inl.
#pragma once

#include <cstdint>

#include "cpu/batch_parts.h"
#include "cpu/simd/level.h"
#include "cpu/train_plan.h"
#include "params.h"

namespace zoosparse {

struct TrainKernels {
  int lanes;
  // All steps of models [first, first + lanes) (fewer at the end): parts of each batch until none is left, the sum of
  // their gradients, the update. `own`: plan.vectors x lanes floats, 64-byte aligned.
  void (*lead)(const TrainParams& params, const TrainPlan& plan, int64_t first, BatchParts& parts, float* own);
  // Takes parts of a group that another thread leads, until the last step has none left.
  void (*help)(const TrainParams& params, const TrainPlan& plan, int64_t first, BatchParts& parts, float* own);
  // Spends `count` multiply-adds in registers, as fast as they go: the roof. Returns a number to keep them from
  // vanishing.
  float (*multiply_adds)(int64_t count);
};

}  // namespace zoosparse

ZOOSPARSE_KERNELS(TrainKernels, train_kernels)
