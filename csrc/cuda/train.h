// Launchers of training. Nothing is launched where there are no models; the caller looks for launch errors.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/train_block_plan.h"

namespace zoosparse::cuda {

// How the current device trains models of a plan: blocks side by side, each on one model, some samples of its batch at
// a time. How many samples that are decides in which order gradients are added up, so it depends on the plan alone.
struct TrainGrid {
  int64_t blocks;
  int at_once;
  bool in_shared;        // whether weights and activations fit the shared memory of a block
  int64_t shared_bytes;  // of a block
  int64_t floats;        // of global memory that a block needs besides
};
TrainGrid train_grid(const BlockPlan& plan, const TrainParams& params);

// All steps of all models. All memory is the device's, the plan's stages too; `scratch` has grid.blocks * grid.floats.
void launch_train(const TrainParams& params, const BlockPlan& plan, const TrainGrid& grid, float* scratch,
                  cudaStream_t stream);

}  // namespace zoosparse::cuda
