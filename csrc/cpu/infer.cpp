// Inference of a population on the CPU: arguments are settled here, (image block, models) tasks go to simd/infer.inl.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <tuple>
#include <vector>

#include "common/checks.h"
#include "common/infer_arguments.h"
#include "common/operators.h"
#include "common/parallel.h"
#include "cpu/aligned.h"
#include "cpu/infer_model.h"
#include "cpu/settings.h"
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

// The engine on checked arguments.
class Inference {
 public:
  Inference(const char* op, const InferTensors& tensors, int64_t classes, int64_t mode)
      : kernels_(infer_kernels()), arguments_(op, tensors, classes, mode, kernels_.lanes) {
    const bool bytes = is_of(arguments_.pixels(), ScalarType::Byte);
    images_ = {bytes ? read<uint8_t>(arguments_.pixels()) : nullptr, bytes ? nullptr : read<float>(arguments_.pixels()),
               scale(), scale() + channels()};
    for (int64_t c = 0; c < channels(); ++c)
      largest_pixel_ += bytes ? std::abs(double{images_.shift[c]}) + 255.0 * std::abs(images_.scale[c]) : HUGE_VAL;
    sort_rows();
  }

  const InferArguments& arguments() const { return arguments_; }
  int64_t models() const { return arguments_.models(); }
  int64_t images() const { return arguments_.images(); }
  int64_t blocks() const { return (images() + lanes() - 1) / lanes(); }
  int64_t lanes() const { return kernels_.lanes; }
  const InferPlan& plan() const { return arguments_.plan(); }
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
    const int64_t threads = thread_count(), parts = parts_of_models(last - first, 4 * threads);
    const int64_t tasks = blocks() * parts;
    std::atomic<int64_t> next{0};
    parallel_for(0, std::min(tasks, threads), 1, [&](int64_t begin, int64_t end) {
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
  int64_t channels() const { return arguments_.pixels().size(1); }
  const float* scale() const { return read<float>(arguments_.scale_and_shift()); }

  std::vector<PreparedModel> prepare(int64_t first, int64_t last) const {
    std::vector<PreparedModel> models;
    models.reserve(static_cast<size_t>(last - first));
    const float* weights = arguments_.weights();
    const int64_t p = arguments_.parameters();
    for (int64_t m = first; m < last; ++m)
      models.emplace_back(plan(), weights + row(m) * p, largest_pixel_, arguments_.mode(), costs_);
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
    const float* weights = arguments_.weights();
    const size_t columns = static_cast<size_t>(arguments_.parameters());
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
  const InferArguments arguments_;
  const InferCosts costs_{cost_on_planes, cost_on_one_position};
  std::vector<int64_t> rows_;  // [N]
  InferImages images_{};
  double largest_pixel_ = 0;  // none that the network sees is larger; NaN if one may be NaN
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
  check(on_planes > 0 && on_one_position > 0, "set_infer_costs: costs must be positive, got ", on_planes, " and ",
        on_one_position);
  cost_on_planes = on_planes;
  cost_on_one_position = on_one_position;
}

Verdicts infer(const InferTensors& tensors, const Tensor& labels, int64_t classes, int64_t mode) {
  const Inference inference("infer", tensors, classes, mode);
  const Tensor targets = inference.arguments().check_labels(labels);
  const InferResults results(inference.arguments());
  const auto judge = [&]<class Class>(Class* predictions) {
    judge_all(inference, read<int64_t>(targets), predictions, write<double>(results.loss),
              write<int64_t>(results.correct));
  };
  if (is_of(results.predictions, ScalarType::Byte))
    judge(write<uint8_t>(results.predictions));
  else
    judge(write<uint16_t>(results.predictions));
  return {results.predictions, results.loss, results.correct};
}

Tensor infer_scores(const InferTensors& tensors, int64_t classes, int64_t mode) {
  const Inference inference("infer_scores", tensors, classes, mode);
  const int64_t lanes = inference.lanes(), count_images = inference.images();
  const Tensor scores = empty_scores(inference.arguments());
  float* out = write<float>(scores);
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
