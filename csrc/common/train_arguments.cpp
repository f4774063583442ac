#include "common/train_arguments.h"

#include <ATen/ops/aminmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <utility>

#include "common/checks.h"
#include "common/program_arguments.h"
#include "common/program_table.h"

namespace zoosparse {
namespace {

constexpr const char* kOp = "train_steps_";

// Random numbers count steps in 32 bits.
constexpr int64_t kMostSteps = int64_t{1} << 32;

void check_range(const at::Tensor& numbers, int64_t limit, const char* name) {
  if (numbers.numel() == 0) return;
  const auto [low, high] = at::aminmax(numbers);
  TORCH_CHECK_VALUE(low.item<int64_t>() >= 0 && high.item<int64_t>() < limit, kOp, ": ", name, " has numbers from ",
                    low.item<int64_t>(), " to ", high.item<int64_t>(), "; expected numbers in [0, ", limit, ")");
}

void check_rates(const at::Tensor& rates) {
  const auto [low, high] = at::aminmax(rates);  // NaN if one of them is
  TORCH_CHECK_VALUE(low.item<float>() >= 0 && high.item<float>() < 1, kOp, ": dropout has rates from ",
                    low.item<float>(), " to ", high.item<float>(), "; expected rates in [0, 1)");
}

// What is changed in place must be memory of its own: of two that share some, one would overwrite the other. All are
// contiguous and of the same size, or null where they are not used.
void check_own_memory(const TrainParams& params) {
  const std::pair<const float*, const char*> changed[] = {
      {params.weights, "weights"},
      {params.moment1, "moment1"},
      {params.moment2, "moment2"},
      {params.log_sigma2, "log_sigma2"},
      {params.sigma_moment1, "sigma_moment1"},
      {params.sigma_moment2, "sigma_moment2"},
  };
  const auto bytes = static_cast<uintptr_t>(params.models * params.parameters) * sizeof(float);
  for (const auto& [numbers, name] : changed)
    for (const auto& [before, name_before] : changed) {
      if (numbers == nullptr || name == name_before) break;
      const auto place = reinterpret_cast<uintptr_t>(numbers), place_before = reinterpret_cast<uintptr_t>(before);
      const bool apart = before == nullptr || place >= place_before + bytes || place_before >= place + bytes;
      TORCH_CHECK_VALUE(apart, kOp, ": ", name_before, " and ", name, " share memory, and both change; pass ", name,
                        ".clone()");
    }
}

}  // namespace

// A matrix changed in place: [N, P] float32, contiguous, or empty where it is not used.
float* TrainArguments::matrix(at::Tensor& tensor, bool required, const char* name) const {
  if (tensor.numel() == 0 && (!required || params_.models == 0)) return nullptr;
  check_dtype(tensor, at::kFloat, kOp, name);
  check_shape(tensor, {params_.models, params_.parameters}, kOp, name);
  TORCH_CHECK_VALUE(tensor.is_contiguous(), kOp, ": ", name, " must be contiguous");
  TORCH_CHECK_VALUE(tensor.device() == device_, kOp, ": ", name, " is on ", tensor.device(), ", expected ", device_);
  return tensor.mutable_data_ptr<float>();
}

template <class T>
const T* TrainArguments::array(const at::Tensor& tensor, at::ScalarType dtype, at::IntArrayRef shape,
                               const char* name) {
  check_dtype(tensor, dtype, kOp, name);
  check_shape(tensor, shape, kOp, name);
  TORCH_CHECK_VALUE(tensor.is_contiguous(), kOp, ": ", name, " must be contiguous");
  return kept_.emplace_back(tensor.to(device_)).const_data_ptr<T>();
}

TrainArguments::TrainArguments(const TrainTensors& tensors) : device_(tensors.weights.device()) {
  check_matrix(tensors.weights, kOp, "weights");
  params_.models = tensors.weights.size(0);
  params_.parameters = tensors.weights.size(1);
  set_matrices(tensors);
  set_images(tensors);
  set_normalisation(tensors.mean, tensors.std);
  set_steps(tensors);
  program_ = decode_program(kOp, tensors.program.cpu(), tensors.values.cpu(), tensors.clamp.cpu(),
                            tensors.images.sizes().slice(1), params_.parameters);
  refusing(kOp, [&] { check_own_columns(program_); });
  check_range(tensors.labels, program_.back().out_channels, "labels");
  loss_sum_ = at::zeros({params_.models}, tensors.weights.options().dtype(at::kDouble));
  correct_ = at::zeros({params_.models}, tensors.weights.options().dtype(at::kLong));
  params_.loss_sum = loss_sum_.mutable_data_ptr<double>();
  params_.correct = correct_.mutable_data_ptr<int64_t>();
}

void TrainArguments::set_matrices(const TrainTensors& tensors) {
  params_.weights = matrix(tensors.weights, true, "weights");
  params_.moment1 = matrix(tensors.moment1, false, "moment1");
  params_.moment2 = matrix(tensors.moment2, false, "moment2");
  params_.log_sigma2 = matrix(tensors.log_sigma2, false, "log_sigma2");
  const bool variational = params_.log_sigma2 != nullptr;
  params_.sigma_moment1 = matrix(tensors.sigma_moment1, variational, "sigma_moment1");
  params_.sigma_moment2 = matrix(tensors.sigma_moment2, variational, "sigma_moment2");
  check_own_memory(params_);
  TORCH_CHECK_VALUE(tensors.optimizer >= 0 && tensors.optimizer <= static_cast<int64_t>(OptimizerKind::rmsprop), kOp,
                    ": unknown optimizer number ", tensors.optimizer);
  params_.optimizer = static_cast<OptimizerKind>(tensors.optimizer);
  const bool first = params_.optimizer != OptimizerKind::rmsprop, second = params_.optimizer != OptimizerKind::sgd;
  TORCH_CHECK_VALUE(
      params_.models == 0 || ((!first || params_.moment1 != nullptr) && (!second || params_.moment2 != nullptr)), kOp,
      ": this optimizer needs ", first ? "moment1 " : "", second ? "moment2" : "");
}

void TrainArguments::set_images(const TrainTensors& tensors) {
  const at::Tensor& images = tensors.images;
  TORCH_CHECK_VALUE(images.dim() == 4 && images.is_contiguous(), kOp,
                    ": images must be contiguous [M, C, H, W], got shape ", images.sizes());
  for (const auto& [tensor, name] : {std::pair(&images, "images"), std::pair(&tensors.labels, "labels")})
    TORCH_CHECK_VALUE(tensor->device() == device_, kOp, ": ", name, " are on ", tensor->device(), ", expected ",
                      device_);
  params_.images = images.size(0);
  params_.image_elements = images.size(1) * images.size(2) * images.size(3);
  if (images.scalar_type() == at::kByte) {
    params_.images_u8 = images.const_data_ptr<uint8_t>();
  } else {
    check_dtype(images, at::kFloat, kOp, "images");
    params_.images_f32 = images.const_data_ptr<float>();
  }
  params_.labels = array<int64_t>(tensors.labels, at::kLong, {params_.images}, "labels");
  TORCH_CHECK_VALUE(tensors.crop >= 0 && tensors.crop < (1 << 20), kOp, ": crop must be 0 or more pixels, got ",
                    tensors.crop);
  params_.crop = static_cast<int32_t>(tensors.crop);
  params_.flip = tensors.flip;
  const int64_t channels = images.size(1);
  check_shape(tensors.mean, {channels}, kOp, "mean");
  check_shape(tensors.std, {channels}, kOp, "std");
}

// What the network sees is (pixel / 255 - mean) / std for bytes, (pixel - mean) / std for floats.
void TrainArguments::set_normalisation(const at::Tensor& mean, const at::Tensor& std) {
  const auto means = mean.to(at::kCPU, at::kDouble).contiguous(), stds = std.to(at::kCPU, at::kDouble).contiguous();
  const int64_t channels = means.size(0);
  const double unit = params_.images_u8 != nullptr ? 255.0 : 1.0;
  const auto numbers = at::empty({2 * channels}, means.options().dtype(at::kFloat));
  float *const scale = numbers.mutable_data_ptr<float>(), *const shift = scale + channels;
  for (int64_t c = 0; c < channels; ++c) {
    const double deviation = stds.const_data_ptr<double>()[c];
    scale[c] = static_cast<float>(1.0 / (unit * deviation));
    shift[c] = static_cast<float>(-means.const_data_ptr<double>()[c] / deviation);
  }
  params_.channel_scale = array<float>(numbers, at::kFloat, {2 * channels}, "scale");
  params_.channel_shift = params_.channel_scale + channels;
}

void TrainArguments::set_steps(const TrainTensors& tensors) {
  const int64_t n = params_.models;
  TORCH_CHECK_VALUE(tensors.batch_size >= 1, kOp, ": batch_size must be 1 or more, got ", tensors.batch_size);
  check_matrix(tensors.order, kOp, "order");
  params_.samples = tensors.order.size(1);
  params_.batch_size = tensors.batch_size;
  const bool shared = tensors.order.size(0) == 1;
  params_.order = array<int32_t>(tensors.order, at::kInt, {shared ? 1 : n, params_.samples}, "order");
  params_.order_stride = shared ? 0 : params_.samples;
  check_range(tensors.order, params_.images, "order");
  const int64_t steps = batches(params_.samples, params_.batch_size);
  TORCH_CHECK_VALUE(tensors.first_step >= 0 && tensors.first_step <= kMostSteps - steps, kOp,
                    ": first_step must be 0 or more, and the last step below 2^32, got ", tensors.first_step);
  params_.hyper = array<double>(tensors.hyper, at::kDouble, {n, kHyperColumns}, "hyper");
  params_.lr_factor = array<double>(tensors.lr_factor, at::kDouble, {steps}, "lr_factor");
  if (tensors.packed_masks.numel() > 0)
    params_.masks = array<uint8_t>(tensors.packed_masks, at::kByte, {n, (params_.parameters + 7) / 8}, "packed_masks");
  if (tensors.dropout.numel() > 0) {
    params_.dropout = array<float>(tensors.dropout, at::kFloat, {n}, "dropout");
    check_rates(tensors.dropout);
  }
  params_.seeds = array<int64_t>(tensors.seeds, at::kLong, {n}, "seeds");
  params_.seed = tensors.seed;
  params_.first_step = tensors.first_step;
  params_.kl_weight = static_cast<float>(tensors.kl_weight);
  params_.variational_bias = tensors.variational_bias;
  TORCH_CHECK_VALUE(tensors.loss >= 0 && tensors.loss <= static_cast<int64_t>(LossKind::squared_error), kOp,
                    ": unknown loss number ", tensors.loss);
  params_.loss = static_cast<LossKind>(tensors.loss);
}

}  // namespace zoosparse
