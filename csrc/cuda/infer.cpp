// Inference of a population on the GPU: arguments are settled here, and cut into runs whose memory is bounded; kernels
// are in infer.cu.
#include "cuda/infer.h"

#include <ATen/ops/aminmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <memory>
#include <tuple>
#include <vector>

#include "common/checks.h"
#include "common/infer_planner.h"
#include "common/program_arguments.h"
#include "cuda/infer_copy.h"
#include "cuda/launch.h"
#include "cuda/operators.h"

namespace zoosparse::cuda {
namespace {

// A run takes images and models that need so many bytes of scratch memory each, but at least one tile and one model.
constexpr int64_t kBytesOfRun = int64_t{256} << 20;

int64_t count_within(int64_t bytes_of_one, int64_t most) {
  return std::clamp<int64_t>(kBytesOfRun / std::max<int64_t>(1, bytes_of_one), 1, std::max<int64_t>(1, most));
}

// Results of all models and images; those that are undefined are not computed.
struct Results {
  at::Tensor predictions, loss, correct;  // [N, M] uint8 or uint16, [N] float64, [N] int64; or
  at::Tensor scores;                      // [N, M, classes]
};

const at::Tensor& on_device(const at::Tensor& weights, const char* op) {
  TORCH_CHECK_VALUE(weights.is_cuda(), op, ": weights are on ", weights.device(),
                    ", expected the device of the images");
  return weights;
}

// The arguments that both operators share, checked, and what the kernels read of them on the device.
class Inference {
 public:
  Inference(const char* op, const at::Tensor& weights, const at::Tensor& program, const at::Tensor& values,
            const at::Tensor& images, const at::Tensor& mean, const at::Tensor& std, int64_t classes, int64_t mode)
      : launch_(on_device(weights, op)), weights_(weights.contiguous()), images_(images.contiguous()) {
    check_matrix(weights, op, "weights");
    check_dtype(weights, at::kFloat, op, "weights");
    check_beside(images, weights, op, "images");
    TORCH_CHECK_VALUE(images.dim() == 4, op, ": images must be [M, C, H, W], got shape ", images.sizes());
    TORCH_CHECK_VALUE(mode >= 0 && mode <= 2, op, ": mode must be 0 (auto), 1 (dense) or 2 (sparse), got ", mode);
    set_pixels(op, mean, std);
    const at::Tensor numbers = values.cpu();
    const auto ops = decode_program(op, program.cpu(), numbers, at::empty({0}, numbers.options()),
                                    images.sizes().slice(1), weights.size(1));
    const auto planned = refusing(op, [&] { return std::make_unique<InferPlanner>(ops, kTileImages); });
    const InferPlanner& planner = *planned;
    TORCH_CHECK_VALUE(planner.plan().classes == classes, op, ": the program gives ", planner.plan().classes,
                      " scores, classes is ", classes);
    set_plan(planner.plan());
    run_.mode = static_cast<InferMode>(mode);
    run_.parameters = weights_.size(1);
    run_.all_images = images_.size(0);
  }

  int64_t models() const { return weights_.size(0); }
  int64_t images() const { return images_.size(0); }

  // Labels [M] on the device, or undefined for scores.
  void run(const at::Tensor& labels, const Results& results) const {
    const InferPlan& plan = run_.plan;
    const int64_t vectors = static_cast<int64_t>(plan.image.channels) * plan.image.plane;
    const int64_t tiles = count_within(vectors * kVectorBytes32, (images() + kTileImages - 1) / kTileImages);
    const int64_t verdict = sizeof(double) + sizeof(int32_t), list = sizeof(SparseTap);
    const int64_t at_once = count_within(list * run_.parameters + verdict * tiles, models());
    InferGrid grid = infer_grid(plan);
    grid.blocks = std::min(grid.blocks, tiles * at_once);

    const auto space = [&](int64_t size, at::ScalarType dtype) { return at::empty({size}, of(dtype)); };
    const auto tiled = at::zeros({tiles * vectors * kTileImages}, of(at::kFloat));
    const auto taps = space(run_.mode == InferMode::dense ? 0 : list * at_once * run_.parameters, at::kByte);
    const auto counts = space(at_once * plan.channels, at::kInt), sparse = space(at_once * plan.convolutions, at::kInt);
    const auto hidden = space(grid.in_shared ? 0 : grid.blocks * grid.floats, at::kFloat);
    const auto losses = space(tiles * at_once, at::kDouble), correct = space(tiles * at_once, at::kInt);

    InferRun run = run_;
    run.tiles = tiled.mutable_data_ptr<float>();
    run.taps = static_cast<SparseTap*>(taps.mutable_data_ptr());
    run.counts = counts.mutable_data_ptr<int32_t>();
    run.sparse = sparse.mutable_data_ptr<int32_t>();
    run.hidden = hidden.mutable_data_ptr<float>();
    run.losses = losses.mutable_data_ptr<double>();
    run.correct = correct.mutable_data_ptr<int32_t>();
    for (int64_t image = 0; image < images(); image += tiles * kTileImages) {
      select_images(run, image, std::min(images() - image, tiles * kTileImages), labels);
      launch_infer_tiles(run, launch_.stream());
      launch_.check();
      for (int64_t model = 0; model < models(); model += at_once) {
        select_models(run, model, std::min(models() - model, at_once), results);
        launch_infer_lists(run, launch_.stream());
        launch_.check();
        launch_infer(run, grid, launch_.stream());
        launch_.check();
        if (!results.loss.defined()) continue;
        launch_infer_sums(run, results.loss.mutable_data_ptr<double>() + model,
                          results.correct.mutable_data_ptr<int64_t>() + model, launch_.stream());
        launch_.check();
      }
    }
  }

 private:
  at::TensorOptions of(at::ScalarType dtype) const { return weights_.options().dtype(dtype); }

  // What the network sees is (pixel / 255 - mean) / std for bytes, (pixel - mean) / std for floats.
  void set_pixels(const char* op, const at::Tensor& mean, const at::Tensor& std) {
    const bool bytes = images_.scalar_type() == at::kByte;
    if (!bytes) check_dtype(images_, at::kFloat, op, "images");
    const int64_t channels = images_.size(1);
    check_shape(mean, {channels}, op, "mean");
    check_shape(std, {channels}, op, "std");
    const auto means = mean.to(at::kCPU, at::kDouble).contiguous(), stds = std.to(at::kCPU, at::kDouble).contiguous();
    const auto numbers = at::empty({2 * channels}, means.options().dtype(at::kFloat));
    float *const scale = numbers.mutable_data_ptr<float>(), *const shift = scale + channels;
    for (int64_t c = 0; c < channels; ++c) {
      const double deviation = stds.const_data_ptr<double>()[c];
      scale[c] = static_cast<float>(1.0 / ((bytes ? 255.0 : 1.0) * deviation));
      shift[c] = static_cast<float>(-means.const_data_ptr<double>()[c] / deviation);
    }
    scale_and_shift_ = numbers.to(weights_.device());
    run_.pixels.scale = scale_and_shift_.const_data_ptr<float>();
    run_.pixels.shift = run_.pixels.scale + channels;
  }

  void set_plan(const InferPlan& plan) {
    const auto bytes = at::empty({bytes_of_plan(plan)}, of(at::kByte).device(at::kCPU));
    tables_ = at::empty(bytes.sizes(), of(at::kByte));
    run_.plan = copy_plan(plan, static_cast<char*>(bytes.mutable_data_ptr()),
                          static_cast<const char*>(tables_.const_data_ptr()));
    tables_.copy_(bytes);
  }

  void select_images(InferRun& run, int64_t first, int64_t count, const at::Tensor& labels) const {
    const int64_t pixels = images_.size(1) * images_.size(2) * images_.size(3);
    run.first_image = first;
    run.images = count;
    run.labels = labels.defined() ? labels.const_data_ptr<int64_t>() + first : nullptr;
    if (images_.scalar_type() == at::kByte)
      run.pixels.u8 = images_.const_data_ptr<uint8_t>() + first * pixels;
    else
      run.pixels.f32 = images_.const_data_ptr<float>() + first * pixels;
  }

  void select_models(InferRun& run, int64_t first, int64_t count, const Results& results) const {
    const int64_t columns = first * images();
    run.models = count;
    run.weights = weights_.const_data_ptr<float>() + first * run.parameters;
    if (results.scores.defined())
      run.scores = results.scores.mutable_data_ptr<float>() + columns * run.plan.classes;
    else if (results.predictions.scalar_type() == at::kByte)
      run.predictions_u8 = results.predictions.mutable_data_ptr<uint8_t>() + columns;
    else
      run.predictions_u16 = results.predictions.mutable_data_ptr<uint16_t>() + columns;
  }

  Launch launch_;
  at::Tensor weights_, images_;          // [N, P], [M, C, H, W]
  at::Tensor scale_and_shift_, tables_;  // what run_ points to
  InferRun run_{};
};

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> infer(const at::Tensor& weights, const at::Tensor& program,
                                                     const at::Tensor& values, const at::Tensor& images,
                                                     const at::Tensor& mean, const at::Tensor& std,
                                                     const at::Tensor& labels, int64_t classes, int64_t mode) {
  const Inference inference("infer", weights, program, values, images, mean, std, classes, mode);
  check_beside(labels, weights, "infer", "labels");
  check_dtype(labels, at::kLong, "infer", "labels");
  check_shape(labels, {inference.images()}, "infer", "labels");
  TORCH_CHECK_VALUE(classes <= 65536, "infer: at most 65536 classes, got ", classes);
  if (inference.images() > 0) {
    const auto [lowest, highest] = at::aminmax(labels);
    const auto low = lowest.item<int64_t>(), high = highest.item<int64_t>();
    TORCH_CHECK_VALUE(low >= 0 && high < classes, "infer: labels from ", low, " to ", high, " lie outside the ",
                      classes, " classes");
  }
  const int64_t n = inference.models();
  const auto of = [&](at::ScalarType dtype) { return weights.options().dtype(dtype); };
  Results results;
  results.predictions = at::empty({n, inference.images()}, of(classes <= 256 ? at::kByte : at::kUInt16));
  results.loss = at::zeros({n}, of(at::kDouble));
  results.correct = at::zeros({n}, of(at::kLong));
  inference.run(labels.contiguous(), results);
  return {results.predictions, results.loss, results.correct};
}

at::Tensor infer_scores(const at::Tensor& weights, const at::Tensor& program, const at::Tensor& values,
                        const at::Tensor& images, const at::Tensor& mean, const at::Tensor& std, int64_t classes,
                        int64_t mode) {
  const Inference inference("infer_scores", weights, program, values, images, mean, std, classes, mode);
  Results results;
  results.scores = at::empty({inference.models(), inference.images(), classes}, weights.options());
  inference.run({}, results);
  return results.scores;
}

}  // namespace zoosparse::cuda
