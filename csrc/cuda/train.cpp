// Training steps of a population on the GPU: memory for the blocks, the plan's stages; kernels are in train.cu.
#include "cuda/train.h"

#include <ATen/ops/empty.h>

#include <cstring>
#include <memory>
#include <tuple>

#include "common/checks.h"
#include "common/train_arguments.h"
#include "cuda/launch.h"
#include "cuda/operators.h"
#include "cuda/train_block_planner.h"

namespace zoosparse::cuda {
namespace {

// The stages of a plan as bytes on the device of `like`; the plan then points there.
at::Tensor stages_on_device(BlockPlan& plan, const at::Tensor& like) {
  const int64_t bytes = plan.count * static_cast<int64_t>(sizeof(BlockStage));
  const auto here = at::empty({bytes}, at::TensorOptions().dtype(at::kByte));
  std::memcpy(here.mutable_data_ptr(), plan.stages, static_cast<size_t>(bytes));
  auto there = here.to(like.device());
  plan.stages = static_cast<const BlockStage*>(there.const_data_ptr());
  return there;
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> train_steps_(
    at::Tensor& weights, at::Tensor& moment1, at::Tensor& moment2, at::Tensor& log_sigma2, at::Tensor& sigma_moment1,
    at::Tensor& sigma_moment2, const at::Tensor& program, const at::Tensor& values, const at::Tensor& clamp,
    const at::Tensor& images, const at::Tensor& mean, const at::Tensor& std, const at::Tensor& labels,
    const at::Tensor& order, int64_t batch_size, int64_t optimizer, const at::Tensor& hyper,
    const at::Tensor& lr_factor, const at::Tensor& packed_masks, const at::Tensor& dropout, const at::Tensor& seeds,
    int64_t seed, int64_t first_step, double kl_weight, bool variational_bias, int64_t loss, int64_t crop, bool flip) {
  TORCH_CHECK_VALUE(weights.is_cuda(), "train_steps_: weights are on ", weights.device(),
                    ", expected the CUDA device of the other tensors");
  const Launch launch(weights);
  const TrainArguments arguments({weights,          moment1, moment2,    log_sigma2, sigma_moment1, sigma_moment2,
                                  program,          values,  clamp,      images,     mean,          std,
                                  labels,           order,   batch_size, optimizer,  hyper,         lr_factor,
                                  packed_masks,     dropout, seeds,      seed,       first_step,    kl_weight,
                                  variational_bias, loss,    crop,       flip});
  const TrainParams& params = arguments.params();
  TORCH_CHECK_VALUE(params.parameters < (int64_t{1} << 31), "train_steps_: at most 2^31 - 1 parameters, got ",
                    params.parameters);
  if (params.models > 0) {
    const auto planner = refusing("train_steps_", [&] {
      return std::make_unique<BlockPlanner>(arguments.program(), params.log_sigma2 != nullptr);
    });
    BlockPlan plan = planner->plan();
    const auto stages = stages_on_device(plan, weights);
    const TrainGrid grid = train_grid(plan, params);
    const auto scratch = at::empty({grid.blocks * grid.floats}, weights.options());
    launch_train(params, plan, grid, scratch.mutable_data_ptr<float>(), launch.stream());
    launch.check();
  }
  return {arguments.loss_sum(), arguments.correct()};
}

}  // namespace zoosparse::cuda
