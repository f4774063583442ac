// Inference of a population on the GPU: arguments are cut into runs whose memory is bounded; kernels are in infer.cu.
#include "cuda/infer.h"

#include <algorithm>

#include "common/infer_arguments.h"
#include "common/operators.h"
#include "cuda/infer_copy.h"
#include "cuda/launch.h"

namespace zoosparse::cuda {
namespace {

// A run takes images and models that need so many bytes of scratch memory each, but at least one tile and one model.
constexpr int64_t kBytesOfRun = int64_t{256} << 20;

int64_t count_within(int64_t bytes_of_one, int64_t most) {
  return std::clamp<int64_t>(kBytesOfRun / std::max<int64_t>(1, bytes_of_one), 1, std::max<int64_t>(1, most));
}

// Results of all models and images; those that are null are not computed.
struct Results {
  uint8_t* predictions_u8 = nullptr;  // [N, M], or
  uint16_t* predictions_u16 = nullptr;
  double* loss = nullptr;  // [N]
  int64_t* correct = nullptr;
  float* scores = nullptr;  // [N, M, classes]
};

// The engine on checked arguments, and what the kernels read of them on the device.
class Inference {
 public:
  Inference(const char* op, const InferTensors& tensors, int64_t classes, int64_t mode)
      : launch_(tensors.weights, op), arguments_(op, tensors, classes, mode, kTileImages) {
    scale_and_shift_ = move_to(arguments_.scale_and_shift(), launch_.place());
    run_.pixels.scale = read<float>(scale_and_shift_);
    run_.pixels.shift = run_.pixels.scale + arguments_.pixels().size(1);
    set_plan(arguments_.plan());
    run_.mode = arguments_.mode();
    run_.parameters = arguments_.parameters();
    run_.all_images = images();
  }

  const InferArguments& arguments() const { return arguments_; }
  int64_t models() const { return arguments_.models(); }
  int64_t images() const { return arguments_.images(); }

  // Labels [M] on the device, or null for scores.
  void run(const int64_t* labels, const Results& results) const {
    const InferPlan& plan = run_.plan;
    const int64_t vectors = static_cast<int64_t>(plan.image.channels) * plan.image.plane;
    const int64_t tiles = count_within(vectors * kVectorBytes32, (images() + kTileImages - 1) / kTileImages);
    const int64_t verdict = sizeof(double) + sizeof(int32_t), list = sizeof(SparseTap);
    const int64_t at_once = count_within(list * run_.parameters + verdict * tiles, models());
    InferGrid grid = infer_grid(plan);
    grid.blocks = std::min(grid.blocks, tiles * at_once);

    const Tensor tiled = zeros({tiles * vectors * kTileImages}, ScalarType::Float, launch_.place());
    const Tensor taps =
        launch_.space(run_.mode == InferMode::dense ? 0 : list * at_once * run_.parameters, ScalarType::Byte);
    const Tensor counts = launch_.space(at_once * plan.channels, ScalarType::Int),
                 sparse = launch_.space(at_once * plan.convolutions, ScalarType::Int);
    const Tensor hidden = launch_.space(grid.in_shared ? 0 : grid.blocks * grid.floats, ScalarType::Float);
    const Tensor losses = launch_.space(tiles * at_once, ScalarType::Double),
                 correct = launch_.space(tiles * at_once, ScalarType::Int);

    InferRun run = run_;
    run.tiles = write<float>(tiled);
    run.taps = write<SparseTap>(taps);
    run.counts = write<int32_t>(counts);
    run.sparse = write<int32_t>(sparse);
    run.hidden = write<float>(hidden);
    run.losses = write<double>(losses);
    run.correct = write<int32_t>(correct);
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
        if (results.loss == nullptr) continue;
        launch_infer_sums(run, results.loss + model, results.correct + model, launch_.stream());
        launch_.check();
      }
    }
  }

 private:
  void set_plan(const InferPlan& plan) {
    const Tensor bytes = empty({bytes_of_plan(plan)}, ScalarType::Byte, here());
    tables_ = launch_.space(bytes.numel(), ScalarType::Byte);
    run_.plan = copy_plan(plan, write<char>(bytes), read<char>(tables_));
    copy(bytes, tables_);
  }

  void select_images(InferRun& run, int64_t first, int64_t count, const int64_t* labels) const {
    const Tensor& all = arguments_.pixels();
    const int64_t pixels = all.size(1) * all.size(2) * all.size(3);
    run.first_image = first;
    run.images = count;
    run.labels = labels == nullptr ? nullptr : labels + first;
    if (is_of(all, ScalarType::Byte))
      run.pixels.u8 = read<uint8_t>(all) + first * pixels;
    else
      run.pixels.f32 = read<float>(all) + first * pixels;
  }

  void select_models(InferRun& run, int64_t first, int64_t count, const Results& results) const {
    const int64_t columns = first * images();
    run.models = count;
    run.weights = arguments_.weights() + first * run.parameters;
    if (results.scores != nullptr)
      run.scores = results.scores + columns * run.plan.classes;
    else if (results.predictions_u8 != nullptr)
      run.predictions_u8 = results.predictions_u8 + columns;
    else
      run.predictions_u16 = results.predictions_u16 + columns;
  }

  Launch launch_;
  InferArguments arguments_;
  Tensor scale_and_shift_, tables_;  // what run_ points to
  InferRun run_{};
};

}  // namespace

Verdicts infer(const InferTensors& tensors, const Tensor& labels, int64_t classes, int64_t mode) {
  const Inference inference("infer", tensors, classes, mode);
  const Tensor targets = inference.arguments().check_labels(labels);
  const InferResults results(inference.arguments());
  const bool bytes = is_of(results.predictions, ScalarType::Byte);
  inference.run(read<int64_t>(targets), {
                                            .predictions_u8 = bytes ? write<uint8_t>(results.predictions) : nullptr,
                                            .predictions_u16 = bytes ? nullptr : write<uint16_t>(results.predictions),
                                            .loss = write<double>(results.loss),
                                            .correct = write<int64_t>(results.correct),
                                        });
  return {results.predictions, results.loss, results.correct};
}

Tensor infer_scores(const InferTensors& tensors, int64_t classes, int64_t mode) {
  const Inference inference("infer_scores", tensors, classes, mode);
  const Tensor scores = empty_scores(inference.arguments());
  inference.run(nullptr, {.scores = write<float>(scores)});
  return scores;
}

}  // namespace zoosparse::cuda
