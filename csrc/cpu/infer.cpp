// Inference of a population on the CPU: arguments are settled here, (image block, models) tasks go to simd/infer.inl.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <tuple>
#include <vector>

#include "common/checks.h"
#include "common/infer_planner.h"
#include "common/operators.h"
#include "common/program_arguments.h"
#include "cpu/aligned.h"
#include "cpu/infer_model.h"
#include "cpu/simd/infer.h"

namespace zoosparse::cpu {
namespace {

// Models made ready at a time: enough to share the loading of images, few enough to bound memory.
constexpr int64_t kModelsAtOnce = 256;
constexpr int kMostLanes = 16;

std::atomic<double> cost_on_planes{InferCosts{}.on_planes}, cost_on_one_position{InferCosts{}.on_one_position};

AlignedFloats thread_memory(const InferPlan& plan, int lanes) {
  const int64_t floats = plan.vectors * lanes;
  AlignedFloats memory = aligned_floats(floats);
  std::memset(memory.get(), 0, static_cast<size_t>(floats) * sizeof(float));
  return memory;
}

// The arguments that both operators share, checked.
class Inference {
 public:
  Inference(const char* op, const at::Tensor& weights, const at::Tensor& program, const at::Tensor& values,
            const at::Tensor& images, const at::Tensor& mean, const at::Tensor& std, int64_t classes, int64_t mode)
      : kernels_(infer_kernels()), weights_(weights.contiguous()), pixels_(images.contiguous()) {
    check_matrix(weights, op, "weights");
    check_dtype(weights, at::kFloat, op, "weights");
    TORCH_CHECK_VALUE(images.dim() == 4, op, ": images must be [M, C, H, W], got shape ", images.sizes());
    TORCH_CHECK_VALUE(mode >= 0 && mode <= 2, op, ": mode must be 0 (auto), 1 (dense) or 2 (sparse), got ", mode);
    mode_ = static_cast<InferMode>(mode);
    ops_ =
        decode_program(op, program, values, at::empty({0}, values.options()), images.sizes().slice(1), weights.size(1));
    set_images(op, mean, std);
    planner_ = refusing(op, [&] { return std::make_unique<InferPlanner>(ops_, kernels_.lanes); });
    sort_rows();
    TORCH_CHECK_VALUE(plan().classes == classes, op, ": the program gives ", plan().classes, " scores, classes is ",
                      classes);
  }

  int64_t models() const { return weights_.size(0); }
  int64_t images() const { return pixels_.size(0); }
  int64_t blocks() const { return (images() + lanes() - 1) / lanes(); }
  int64_t lanes() const { return kernels_.lanes; }
  const InferPlan& plan() const { return planner_->plan(); }
  const InferKernels& kernels() const { return kernels_; }

  // The row of weights that comes in the place `position`.
  int64_t row(int64_t position) const { return rows_[static_cast<size_t>(position)]; }

  // Runs the models in positions [first, last), at most kModelsAtOnce, on all images: calls finish(position, block,
  // count, memory) when the scores of a model on a block of images are in memory. Tasks, a block and a part of the
  // models, are taken by whichever thread is free, so finish must write to places of its own. What a model calculates
  // as the one before it did is taken over: every stage leaves its results in memory.
  template <class Finish>
  void run(int64_t first, int64_t last, const Finish& finish) const {
    const std::vector<PreparedModel> models = prepare(first, last);
    const std::vector<int32_t> shared = stages_shared(models);
    const int64_t threads = at::get_num_threads(), parts = parts_of_models(last - first, 4 * threads);
    const int64_t tasks = blocks() * parts;
    std::atomic<int64_t> next{0};
    at::parallel_for(0, std::min(tasks, threads), 1, [&](int64_t begin, int64_t end) {
      const AlignedFloats memory = thread_memory(plan(), kernels_.lanes);
      // One thread may be given the share of several.
      for (int64_t task = next++; begin < end && task < tasks; task = next++) {
        const int64_t block = task / parts, part = task % parts, image = block * lanes(), total = last - first;
        const int count = static_cast<int>(std::min(lanes(), images() - image));
        kernels_.load_images(plan(), images_, image, count, memory.get());
        const int64_t begin_part = part * total / parts;
        for (int64_t m = begin_part; m < (part + 1) * total / parts; ++m) {
          const size_t i = static_cast<size_t>(m);
          kernels_.forward(plan(), models[i].view(), m > begin_part ? shared[i] : 0, memory.get());
          finish(first + m, block, count, memory.get());
        }
      }
    });
  }

 private:
  void set_images(const char* op, const at::Tensor& mean, const at::Tensor& std) {
    const bool bytes = pixels_.scalar_type() == at::kByte;
    if (!bytes) check_dtype(pixels_, at::kFloat, op, "images");
    const int64_t channels = pixels_.size(1);
    check_shape(mean, {channels}, op, "mean");
    check_shape(std, {channels}, op, "std");
    const auto means = mean.to(at::kDouble).contiguous(), stds = std.to(at::kDouble).contiguous();
    // What the network sees is (pixel / 255 - mean) / std for bytes, (pixel - mean) / std for floats.
    for (int64_t c = 0; c < channels; ++c) {
      const double deviation = stds.const_data_ptr<double>()[c];
      scale_.push_back(static_cast<float>(1.0 / ((bytes ? 255.0 : 1.0) * deviation)));
      shift_.push_back(static_cast<float>(-means.const_data_ptr<double>()[c] / deviation));
      largest_pixel_ += bytes ? std::abs(double{shift_.back()}) + 255.0 * std::abs(scale_.back()) : HUGE_VAL;
    }
    images_ = {bytes ? pixels_.const_data_ptr<uint8_t>() : nullptr, bytes ? nullptr : pixels_.const_data_ptr<float>(),
               scale_.data(), shift_.data()};
  }

  std::vector<PreparedModel> prepare(int64_t first, int64_t last) const {
    std::vector<PreparedModel> models;
    models.reserve(static_cast<size_t>(last - first));
    const float* weights = weights_.const_data_ptr<float>();
    for (int64_t m = first; m < last; ++m)
      models.emplace_back(plan(), weights + row(m) * weights_.size(1), largest_pixel_, mode_, costs_);
    return models;
  }

  // Of each model the first stages that it shares with the one before it.
  std::vector<int32_t> stages_shared(const std::vector<PreparedModel>& models) const {
    std::vector<int32_t> shared(models.size());
    for (size_t m = 1; m < models.size(); ++m) shared[m] = models[m].stages_shared_with(models[m - 1], plan());
    return shared;
  }

  // In an order in which rows that begin alike are neighbours: twins of one model whose first layers are the same.
  void sort_rows() {
    const float* weights = weights_.const_data_ptr<float>();
    const size_t columns = static_cast<size_t>(weights_.size(1));
    rows_.resize(static_cast<size_t>(models()));
    std::iota(rows_.begin(), rows_.end(), int64_t{0});
    std::stable_sort(rows_.begin(), rows_.end(), [=](int64_t a, int64_t b) {
      const size_t of_a = static_cast<size_t>(a) * columns, of_b = static_cast<size_t>(b) * columns;
      return std::memcmp(weights + of_a, weights + of_b, columns * sizeof(float)) < 0;
    });
  }

  // Where images are few, the models are cut into parts, so that no thread is idle.
  int64_t parts_of_models(int64_t models, int64_t tasks) const {
    const int64_t per_block = (tasks + blocks() - 1) / std::max<int64_t>(1, blocks());
    return std::clamp<int64_t>(per_block, 1, models);
  }

  const InferKernels& kernels_;
  at::Tensor weights_, pixels_;  // [N, P], [M, C, H, W]
  std::vector<int64_t> rows_;    // [N]
  InferMode mode_;
  const InferCosts costs_{cost_on_planes, cost_on_one_position};
  std::vector<TrainOp> ops_;
  std::vector<float> scale_, shift_;  // [C]
  InferImages images_{};
  double largest_pixel_ = 0;  // none that the network sees is larger; NaN if one may be NaN
  std::unique_ptr<InferPlanner> planner_;
};

// Calls body(first, last) for runs of positions.
template <class Body>
void for_models(const Inference& inference, const Body& body) {
  for (int64_t first = 0; first < inference.models(); first += kModelsAtOnce)
    body(first, std::min(inference.models(), first + kModelsAtOnce));
}

template <class Class>
void judge_all(const Inference& inference, const int64_t* labels, Class* predictions, double* loss, int64_t* correct) {
  const int64_t images = inference.images(), blocks = inference.blocks(), lanes = inference.lanes();
  for_models(inference, [&](int64_t first, int64_t last) {
    std::vector<InferVerdict> verdicts(static_cast<size_t>((last - first) * blocks));
    inference.run(first, last, [&](int64_t position, int64_t block, int count, const float* memory) {
      int32_t predicted[kMostLanes];
      verdicts[static_cast<size_t>((position - first) * blocks + block)] =
          inference.kernels().judge(inference.plan(), labels + block * lanes, count, memory, predicted);
      std::copy(predicted, predicted + count, predictions + inference.row(position) * images + block * lanes);
    });
    // Added up in the order of the images, whichever thread came first.
    for (size_t i = 0; i < verdicts.size(); ++i) {
      const int64_t row = inference.row(first + static_cast<int64_t>(i) / blocks);
      loss[row] += verdicts[i].loss;
      correct[row] += verdicts[i].correct;
    }
  });
}

}  // namespace

void set_infer_costs(double on_planes, double on_one_position) {
  TORCH_CHECK_VALUE(on_planes > 0 && on_one_position > 0, "set_infer_costs: costs must be positive, got ", on_planes,
                    " and ", on_one_position);
  cost_on_planes = on_planes;
  cost_on_one_position = on_one_position;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> infer(const at::Tensor& weights, const at::Tensor& program,
                                                     const at::Tensor& values, const at::Tensor& images,
                                                     const at::Tensor& mean, const at::Tensor& std,
                                                     const at::Tensor& labels, int64_t classes, int64_t mode) {
  const Inference inference("infer", weights, program, values, images, mean, std, classes, mode);
  check_dtype(labels, at::kLong, "infer", "labels");
  check_shape(labels, {inference.images()}, "infer", "labels");
  const int64_t n = inference.models();
  TORCH_CHECK_VALUE(classes <= 65536, "infer: at most 65536 classes, got ", classes);
  const at::Tensor targets = labels.contiguous();
  const int64_t* label = targets.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < inference.images(); ++i)
    TORCH_CHECK_VALUE(label[i] >= 0 && label[i] < classes, "infer: label ", label[i], " of image ", i,
                      " lies outside the ", classes, " classes");
  auto predictions =
      at::empty({n, inference.images()}, weights.options().dtype(classes <= 256 ? at::kByte : at::kUInt16));
  auto loss = at::zeros({n}, weights.options().dtype(at::kDouble));
  auto correct = at::zeros({n}, weights.options().dtype(at::kLong));
  double* losses = loss.mutable_data_ptr<double>();
  int64_t* counts = correct.mutable_data_ptr<int64_t>();
  if (classes <= 256)
    judge_all(inference, label, predictions.mutable_data_ptr<uint8_t>(), losses, counts);
  else
    judge_all(inference, label, predictions.mutable_data_ptr<uint16_t>(), losses, counts);
  return {predictions, loss, correct};
}

at::Tensor infer_scores(const at::Tensor& weights, const at::Tensor& program, const at::Tensor& values,
                        const at::Tensor& images, const at::Tensor& mean, const at::Tensor& std, int64_t classes,
                        int64_t mode) {
  const Inference inference("infer_scores", weights, program, values, images, mean, std, classes, mode);
  const int64_t lanes = inference.lanes(), count_images = inference.images();
  auto scores = at::empty({inference.models(), count_images, classes}, weights.options());
  float* out = scores.mutable_data_ptr<float>();
  const auto transpose = [&](int64_t position, int64_t block, int count, const float* memory) {
    const float* from = memory + inference.plan().scores * lanes;
    float* to = out + (inference.row(position) * count_images + block * lanes) * classes;
    for (int lane = 0; lane < count; ++lane)
      for (int64_t c = 0; c < classes; ++c) *to++ = from[c * lanes + lane];
  };
  for_models(inference, [&](int64_t first, int64_t last) { inference.run(first, last, transpose); });
  return scores;
}

}  // namespace zoosparse::cpu
