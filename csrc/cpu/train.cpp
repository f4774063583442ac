// Training steps of a population on the CPU: groups of models go to simd/train.inl.
#include <ATen/Parallel.h>

#include <algorithm>
#include <tuple>

#include "common/operators.h"
#include "common/train_arguments.h"
#include "cpu/simd/train.h"
#include "cpu/train_planner.h"
#include "cpu/train_team.h"

namespace zoosparse::cpu {

void multiply_adds(int64_t count) {
  const TrainKernels& kernels = train_kernels();
  const int64_t threads = at::get_num_threads();
  at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) kernels.multiply_adds(count / threads);
  });
}

std::tuple<at::Tensor, at::Tensor> train_steps_(
    at::Tensor& weights, at::Tensor& moment1, at::Tensor& moment2, at::Tensor& log_sigma2, at::Tensor& sigma_moment1,
    at::Tensor& sigma_moment2, const at::Tensor& program, const at::Tensor& values, const at::Tensor& clamp,
    const at::Tensor& images, const at::Tensor& mean, const at::Tensor& std, const at::Tensor& labels,
    const at::Tensor& order, int64_t batch_size, int64_t optimizer, const at::Tensor& hyper,
    const at::Tensor& lr_factor, const at::Tensor& packed_masks, const at::Tensor& dropout, const at::Tensor& seeds,
    int64_t seed, int64_t first_step, double kl_weight, bool variational_bias, int64_t loss, int64_t crop, bool flip) {
  const TrainArguments arguments({weights,          moment1, moment2,    log_sigma2, sigma_moment1, sigma_moment2,
                                  program,          values,  clamp,      images,     mean,          std,
                                  labels,           order,   batch_size, optimizer,  hyper,         lr_factor,
                                  packed_masks,     dropout, seeds,      seed,       first_step,    kl_weight,
                                  variational_bias, loss,    crop,       flip});
  const TrainParams& params = arguments.params();
  if (params.models > 0) {
    const TrainKernels& kernels = train_kernels();
    const TrainPlanner planner(arguments.program(), params, kernels.lanes);
    TrainTeam team(params, planner.plan(), kernels);
    // One thread may be given the share of several.
    at::parallel_for(0, std::min<int64_t>(team.most_threads(), at::get_num_threads()), 1,
                     [&](int64_t first, int64_t last) {
                       if (first < last) team.work();
                     });
  }
  return {arguments.loss_sum(), arguments.correct()};
}

}  // namespace zoosparse::cpu
