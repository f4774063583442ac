#include "common/train_arguments.h"

#include <utility>

#include "common/checks.h"
#include "common/pixels.h"
#include "common/program_arguments.h"
#include "common/program_table.h"

namespace zoosparse {
namespace {

constexpr const char* kOp = "train_steps_";

// Random numbers count steps in 32 bits.
constexpr int64_t kMostSteps = int64_t{1} << 32;

template <class T>
void check_range(const Tensor& numbers, int64_t limit, const char* name) {
  if (numbers.numel() == 0) return;
  const auto [low, high] = extremes<T>(numbers);
  check(low >= 0 && high < limit, kOp, ": ", name, " has numbers from ", low, " to ", high,
        "; expected numbers in [0, ", limit, ")");
}

void check_rates(const Tensor& rates) {
  if (rates.numel() == 0) return;
  const auto [low, high] = extremes<float>(rates);
  check(low >= 0 && high < 1, kOp, ": dropout has rates from ", low, " to ", high, "; expected rates in [0, 1)");
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
      check(apart, kOp, ": ", name_before, " and ", name, " share memory, and both change; pass ", name, ".clone()");
    }
}

}  // namespace

// A matrix changed in place: [N, P] float32, contiguous, or empty where it is not used.
float* TrainArguments::matrix(const Tensor& tensor, bool required, const char* name) const {
  if (tensor.numel() == 0 && (!required || params_.models == 0)) return nullptr;
  check_type(tensor, ScalarType::Float, kOp, name);
  check_shape(tensor, {params_.models, params_.parameters}, kOp, name);
  check_contiguous(tensor, kOp, name);
  check_place(tensor, place_, kOp, name);
  return write<float>(tensor);
}

template <class T>
const T* TrainArguments::array(const Tensor& tensor, ScalarType type, Ints shape, const char* name) {
  check_type(tensor, type, kOp, name);
  check_shape(tensor, shape, kOp, name);
  check_contiguous(tensor, kOp, name);
  return read<T>(kept_.emplace_back(move_to(tensor, place_)));
}

TrainArguments::TrainArguments(const TrainTensors& tensors) : place_(place_of(tensors.weights)) {
  check_matrix(tensors.weights, kOp, "weights");
  params_.models = tensors.weights.size(0);
  params_.parameters = tensors.weights.size(1);
  set_matrices(tensors);
  set_images(tensors);
  set_pixels(tensors);
  set_steps(tensors);
  program_ =
      decode_program(kOp, tensors.program, tensors.values, tensors.clamp, tensors.images.sizes(), params_.parameters);
  refusing(kOp, [&] { check_own_columns(program_); });
  check_range<int64_t>(tensors.labels, program_.back().out_channels, "labels");
  loss_sum_ = zeros({params_.models}, ScalarType::Double, place_);
  correct_ = zeros({params_.models}, ScalarType::Long, place_);
  params_.loss_sum = write<double>(loss_sum_);
  params_.correct = write<int64_t>(correct_);
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
  check(tensors.optimizer >= 0 && tensors.optimizer <= static_cast<int64_t>(OptimizerKind::rmsprop), kOp,
        ": unknown optimizer number ", tensors.optimizer);
  params_.optimizer = static_cast<OptimizerKind>(tensors.optimizer);
  const bool first = params_.optimizer != OptimizerKind::rmsprop, second = params_.optimizer != OptimizerKind::sgd;
  check(params_.models == 0 || ((!first || params_.moment1 != nullptr) && (!second || params_.moment2 != nullptr)), kOp,
        ": this optimizer needs ", first ? "moment1 " : "", second ? "moment2" : "");
}

void TrainArguments::set_images(const TrainTensors& tensors) {
  const Tensor& images = tensors.images;
  if (images.dim() != 4 || !images.is_contiguous())
    refuse(kOp, ": images must be contiguous [M, C, H, W], got shape ", text_of(images.sizes()));
  check_place(images, place_, kOp, "images");
  check_place(tensors.labels, place_, kOp, "labels");
  params_.images = images.size(0);
  params_.image_elements = images.size(1) * images.size(2) * images.size(3);
  if (is_of(images, ScalarType::Byte)) {
    params_.images_u8 = read<uint8_t>(images);
  } else {
    check_type(images, ScalarType::Float, kOp, "images");
    params_.images_f32 = read<float>(images);
  }
  params_.labels = array<int64_t>(tensors.labels, ScalarType::Long, {params_.images}, "labels");
  check(tensors.crop >= 0 && tensors.crop < (1 << 20), kOp, ": crop must be 0 or more pixels, got ", tensors.crop);
  params_.crop = static_cast<int32_t>(tensors.crop);
  params_.flip = tensors.flip;
}

void TrainArguments::set_pixels(const TrainTensors& tensors) {
  const Tensor numbers = scale_and_shift(kOp, tensors.images, tensors.mean, tensors.std);
  params_.channel_scale = read<float>(kept_.emplace_back(move_to(numbers, place_)));
  params_.channel_shift = params_.channel_scale + tensors.images.size(1);
}

void TrainArguments::set_steps(const TrainTensors& tensors) {
  const int64_t n = params_.models;
  check(tensors.batch_size >= 1, kOp, ": batch_size must be 1 or more, got ", tensors.batch_size);
  check_matrix(tensors.order, kOp, "order");
  params_.samples = tensors.order.size(1);
  params_.batch_size = tensors.batch_size;
  const bool shared = tensors.order.size(0) == 1;
  params_.order = array<int32_t>(tensors.order, ScalarType::Int, {shared ? 1 : n, params_.samples}, "order");
  params_.order_stride = shared ? 0 : params_.samples;
  check_range<int32_t>(tensors.order, params_.images, "order");
  const int64_t steps = batches(params_.samples, params_.batch_size);
  check(tensors.first_step >= 0 && tensors.first_step <= kMostSteps - steps, kOp,
        ": first_step must be 0 or more, and the last step below 2^32, got ", tensors.first_step);
  params_.hyper = array<double>(tensors.hyper, ScalarType::Double, {n, kHyperColumns}, "hyper");
  params_.lr_factor = array<double>(tensors.lr_factor, ScalarType::Double, {steps}, "lr_factor");
  if (tensors.packed_masks.numel() > 0)
    params_.masks =
        array<uint8_t>(tensors.packed_masks, ScalarType::Byte, {n, (params_.parameters + 7) / 8}, "packed_masks");
  if (tensors.dropout.numel() > 0) {
    params_.dropout = array<float>(tensors.dropout, ScalarType::Float, {n}, "dropout");
    check_rates(tensors.dropout);
  }
  params_.seeds = array<int64_t>(tensors.seeds, ScalarType::Long, {n}, "seeds");
  params_.seed = tensors.seed;
  params_.first_step = tensors.first_step;
  params_.kl_weight = static_cast<float>(tensors.kl_weight);
  params_.variational_bias = tensors.variational_bias;
  check(tensors.loss >= 0 && tensors.loss <= static_cast<int64_t>(LossKind::squared_error), kOp,
        ": unknown loss number ", tensors.loss);
  params_.loss = static_cast<LossKind>(tensors.loss);
}

}  // namespace zoosparse
