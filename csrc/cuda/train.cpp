// Training steps of a population on the GPU: memory for the blocks, the plan's stages; kernels are in train.cu.
#include "cuda/train.h"

#include <cstring>
#include <memory>

#include "common/operators.h"
#include "common/train_arguments.h"
#include "cuda/launch.h"
#include "cuda/train_block_planner.h"

namespace zoosparse::cuda {
namespace {

// The stages of a plan as bytes on a device; the plan then points there.
Tensor stages_on_device(BlockPlan& plan, const Place& place) {
  const int64_t bytes = plan.count * static_cast<int64_t>(sizeof(BlockStage));
  const Tensor here_first = empty({bytes}, ScalarType::Byte, here());
  std::memcpy(write<uint8_t>(here_first), plan.stages, static_cast<size_t>(bytes));
  Tensor there = move_to(here_first, place);
  plan.stages = reinterpret_cast<const BlockStage*>(read<uint8_t>(there));
  return there;
}

}  // namespace

Sums train_steps_(const TrainTensors& tensors) {
  const Launch launch(tensors.weights, "train_steps_");
  const TrainArguments arguments(tensors);
  const TrainParams& params = arguments.params();
  check(params.parameters < (int64_t{1} << 31), "train_steps_: at most 2^31 - 1 parameters, got ", params.parameters);
  if (params.models > 0) {
    const auto planner = refusing("train_steps_", [&] {
      return std::make_unique<BlockPlanner>(arguments.program(), params.log_sigma2 != nullptr);
    });
    BlockPlan plan = planner->plan();
    const Tensor stages = stages_on_device(plan, launch.place());
    const TrainGrid grid = train_grid(plan, params);
    const Tensor scratch = launch.space(grid.blocks * grid.floats, ScalarType::Float);
    launch_train(params, plan, grid, write<float>(scratch), launch.stream());
    launch.check();
  }
  return {arguments.loss_sum(), arguments.correct()};
}

}  // namespace zoosparse::cuda
