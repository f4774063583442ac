// Training steps of a population on the CPU: arguments are settled here, groups of models go to simd/train.inl.
#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>

#include <atomic>
#include <memory>
#include <new>
#include <tuple>

#include "checks.h"
#include "cpu/simd/train.h"
#include "cpu/train_planner.h"
#include "cpu/train_program.h"
#include "operators.h"

namespace zoosparse::cpu {
namespace {

constexpr const char* kOp = "train_steps_";

// A group's memory, aligned for the widest vector.
struct FreeAligned {
  void operator()(float* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
};
std::unique_ptr<float[], FreeAligned> group_memory(const TrainPlan& plan, int lanes) {
  const size_t floats = static_cast<size_t>(plan.vectors) * static_cast<size_t>(lanes);
  return std::unique_ptr<float[], FreeAligned>(new (std::align_val_t{64}) float[floats]);
}

// A matrix changed in place: [N, P] float32, contiguous, or empty where it is not used.
float* matrix(at::Tensor& tensor, at::IntArrayRef shape, bool required, const char* name) {
  if (tensor.numel() == 0 && (!required || shape[0] == 0)) return nullptr;
  check_dtype(tensor, at::kFloat, kOp, name);
  check_shape(tensor, shape, kOp, name);
  TORCH_CHECK(tensor.is_contiguous(), kOp, ": ", name, " must be contiguous");
  return tensor.mutable_data_ptr<float>();
}

template <class T>
const T* array(const at::Tensor& tensor, at::ScalarType dtype, at::IntArrayRef shape, const char* name) {
  check_dtype(tensor, dtype, kOp, name);
  check_shape(tensor, shape, kOp, name);
  TORCH_CHECK(tensor.is_contiguous(), kOp, ": ", name, " must be contiguous");
  return tensor.const_data_ptr<T>();
}

template <class T>
void check_range(const T* numbers, int64_t count, int64_t limit, const char* name) {
  for (int64_t i = 0; i < count; ++i)
    TORCH_CHECK(numbers[i] >= 0 && numbers[i] < limit, kOp, ": ", name, " has ", int64_t{numbers[i]}, " at place ", i,
                "; expected numbers in [0, ", limit, ")");
}

void set_images(TrainParams& params, const at::Tensor& images) {
  TORCH_CHECK(images.dim() == 4 && images.is_contiguous(), kOp, ": images must be contiguous [M, C, H, W], got shape ",
              images.sizes());
  params.images = images.size(0);
  params.image_elements = images.size(1) * images.size(2) * images.size(3);
  if (images.scalar_type() == at::kByte) {
    params.images_u8 = images.const_data_ptr<uint8_t>();
  } else {
    check_dtype(images, at::kFloat, kOp, "images");
    params.images_f32 = images.const_data_ptr<float>();
  }
}

void set_optimizer(TrainParams& params, int64_t optimizer, bool has_first, bool has_second) {
  TORCH_CHECK(optimizer >= 0 && optimizer <= static_cast<int64_t>(OptimizerKind::rmsprop), kOp,
              ": unknown optimizer number ", optimizer);
  params.optimizer = static_cast<OptimizerKind>(optimizer);
  const bool first = params.optimizer != OptimizerKind::rmsprop, second = params.optimizer != OptimizerKind::sgd;
  TORCH_CHECK(params.models == 0 || ((!first || has_first) && (!second || has_second)), kOp, ": this optimizer needs ",
              first ? "moment1 " : "", second ? "moment2" : "");
}

// Every group on its own; a thread takes the next one when it is free. What a model learns depends on no other.
void train_groups(const TrainParams& params, const TrainPlan& plan, const TrainKernels& kernels) {
  const int64_t groups = (params.models + kernels.lanes - 1) / kernels.lanes;
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min<int64_t>(groups, at::get_num_threads()), 1, [&](int64_t first, int64_t last) {
    const auto memory = group_memory(plan, kernels.lanes);
    // One thread may be given the share of several.
    for (int64_t group = next++; first < last && group < groups; group = next++)
      kernels.train_group(params, plan, group * kernels.lanes, memory.get());
  });
}

}  // namespace

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
  check_matrix(weights, kOp, "weights");
  TORCH_CHECK(batch_size >= 1, kOp, ": batch_size must be 1 or more, got ", batch_size);
  TrainParams params{};
  const int64_t n = params.models = weights.size(0), p = params.parameters = weights.size(1);
  params.weights = matrix(weights, {n, p}, true, "weights");
  params.moment1 = matrix(moment1, {n, p}, false, "moment1");
  params.moment2 = matrix(moment2, {n, p}, false, "moment2");
  params.log_sigma2 = matrix(log_sigma2, {n, p}, false, "log_sigma2");
  const bool variational = params.log_sigma2 != nullptr;
  params.sigma_moment1 = matrix(sigma_moment1, {n, p}, variational, "sigma_moment1");
  params.sigma_moment2 = matrix(sigma_moment2, {n, p}, variational, "sigma_moment2");
  set_optimizer(params, optimizer, params.moment1 != nullptr, params.moment2 != nullptr);
  set_images(params, images);
  params.labels = array<int64_t>(labels, at::kLong, {params.images}, "labels");

  check_matrix(order, kOp, "order");
  params.samples = order.size(1);
  params.batch_size = batch_size;
  params.order = array<int32_t>(order, at::kInt, {order.size(0) == 1 ? 1 : n, params.samples}, "order");
  params.order_stride = order.size(0) == 1 ? 0 : params.samples;
  check_range(params.order, order.numel(), params.images, "order");
  const int64_t steps = (params.samples + batch_size - 1) / batch_size;
  params.hyper = array<double>(hyper, at::kDouble, {n, kHyperColumns}, "hyper");
  params.lr_factor = array<double>(lr_factor, at::kDouble, {steps}, "lr_factor");
  if (packed_masks.numel() > 0)
    params.masks = array<uint8_t>(packed_masks, at::kByte, {n, (p + 7) / 8}, "packed_masks");
  if (dropout.numel() > 0) params.dropout = array<float>(dropout, at::kFloat, {n}, "dropout");
  params.seeds = array<int64_t>(seeds, at::kLong, {n}, "seeds");
  params.seed = seed;
  params.first_step = first_step;
  params.kl_weight = static_cast<float>(kl_weight);
  params.variational_bias = variational_bias;
  TORCH_CHECK(loss >= 0 && loss <= static_cast<int64_t>(LossKind::squared_error), kOp, ": unknown loss number ", loss);
  params.loss = static_cast<LossKind>(loss);
  TORCH_CHECK(crop >= 0 && crop < (1 << 20), kOp, ": crop must be 0 or more pixels, got ", crop);
  params.crop = static_cast<int32_t>(crop);
  params.flip = flip;

  const auto ops = decode_program(kOp, program, values, clamp, images.sizes().slice(1), p);
  check_range(params.labels, params.images, ops.back().out_channels, "labels");
  // What the network sees is (pixel / 255 - mean) / std for bytes, (pixel - mean) / std for floats.
  const int64_t channels = images.size(1);
  const double unit = params.images_u8 != nullptr ? 255.0 : 1.0;
  const auto mean64 = mean.to(at::kDouble).contiguous(), std64 = std.to(at::kDouble).contiguous();
  const double* means = array<double>(mean64, at::kDouble, {channels}, "mean");
  const double* stds = array<double>(std64, at::kDouble, {channels}, "std");
  std::vector<float> scale(channels), shift(channels);
  for (int64_t c = 0; c < channels; ++c) {
    scale[c] = static_cast<float>(1.0 / (unit * stds[c]));
    shift[c] = static_cast<float>(-means[c] / stds[c]);
  }
  params.channel_scale = scale.data();
  params.channel_shift = shift.data();

  auto loss_sum = at::zeros({n}, weights.options().dtype(at::kDouble));
  auto correct = at::zeros({n}, weights.options().dtype(at::kLong));
  if (n == 0) return {loss_sum, correct};
  params.loss_sum = loss_sum.mutable_data_ptr<double>();
  params.correct = correct.mutable_data_ptr<int64_t>();
  const TrainKernels& kernels = train_kernels();
  const TrainPlanner planner(ops, params, kernels.lanes);
  train_groups(params, planner.plan(), kernels);
  return {loss_sum, correct};
}

}  // namespace zoosparse::cpu
