// The inference engine on a device against loops over single images: dense and sparse, activations in shared memory and
// outside it, few blocks and many.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "common/infer_planner.h"
#include "cuda/infer.h"
#include "cuda/infer_copy.h"
#include "tests/device.h"
#include "tests/expect.h"
#include "tests/infer_oracle.h"

namespace zoosparse::test {
namespace {

constexpr cudaStream_t kStream = nullptr;
constexpr int64_t kModels = 5;

// Row r keeps another share of its weights, from none to all.
std::vector<float> rows() {
  std::vector<float> rows;
  for (const int kept : {0, 3, 10, 50, 100}) {
    const std::vector<float> row = weights(kept);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

// The images of Data, over and over.
struct Images {
  const Data& data;
  int64_t count;
  std::vector<uint8_t> pixels;
  std::vector<int64_t> labels;

  Images(const Data& source, int64_t images) : data(source), count(images) {
    for (int64_t m = 0; m < images; ++m) {
      const auto first = source.pixels.begin() + m % kImages * kPixels;
      pixels.insert(pixels.end(), first, first + kPixels);
      labels.push_back(source.labels[m % kImages]);
    }
  }
};

void expect_scores(const Images& images, const std::vector<float>& w, const std::vector<float>& found) {
  double furthest = 0;
  for (int64_t r = 0; r < kModels; ++r)
    for (int64_t m = 0; m < images.count; ++m) {
      const std::vector<double> expected =
          scores(program(), w.data() + r * kParameters, images.data.image(m % kImages));
      for (int c = 0; c < kClasses; ++c)
        furthest = std::fmax(furthest, std::fabs(expected[c] - found[(r * images.count + m) * kClasses + c]));
    }
  expect(furthest < 1e-5, "scores", "cuda", images.count);
}

// Predictions, losses and right answers follow from scores that were looked at before.
void expect_verdicts(const Images& images, const std::vector<float>& scores, const std::vector<uint8_t>& predictions,
                     const std::vector<double>& loss, const std::vector<int64_t>& correct) {
  for (int64_t r = 0; r < kModels; ++r) {
    double expected_loss = 0;
    int64_t expected_correct = 0;
    for (int64_t m = 0; m < images.count; ++m) {
      const float* const of_image = scores.data() + (r * images.count + m) * kClasses;
      double sum = 0;
      int best = 0;
      for (int c = 0; c < kClasses; ++c) {
        sum += std::exp(static_cast<double>(of_image[c]));
        if (of_image[c] > of_image[best]) best = c;
      }
      expect(predictions[r * images.count + m] == best, "prediction", "cuda", m);
      expected_correct += best == images.labels[m];
      expected_loss += std::log(sum) - of_image[images.labels[m]];
    }
    expect(correct[r] == expected_correct, "right answers", "cuda", r);
    expect(std::fabs(loss[r] - expected_loss) < 1e-5 * static_cast<double>(images.count + 1), "loss", "cuda", r);
  }
}

// What a run works in.
struct Scratch {
  OnDevice<float> tiles, hidden;
  OnDevice<SparseTap> taps{std::vector<SparseTap>(kModels * kParameters)};
  OnDevice<int32_t> counts, sparse, correct;
  OnDevice<double> losses;

  Scratch(const InferPlan& plan, const cuda::InferGrid& grid, int64_t count)
      : tiles(std::vector<float>(count * plan.image.channels * plan.image.plane * kTileImages)),
        hidden(std::vector<float>(grid.in_shared ? 0 : grid.blocks * grid.floats, NAN)),
        counts(std::vector<int32_t>(kModels * plan.channels)),
        sparse(std::vector<int32_t>(kModels * plan.convolutions)),
        correct(std::vector<int32_t>(count * kModels)),
        losses(std::vector<double>(count * kModels)) {}

  void lend(cuda::InferRun& run) const {
    run.tiles = tiles.get();
    run.hidden = hidden.get();
    run.taps = taps.get();
    run.counts = counts.get();
    run.sparse = sparse.get();
    run.correct = correct.get();
    run.losses = losses.get();
  }
};

struct Planned {
  std::vector<TrainOp> ops = program();
  InferPlanner planner{ops, kTileImages};
  OnDevice<char> tables{std::vector<char>(bytes_of_plan(planner.plan()))};
  InferPlan plan;

  Planned() {
    std::vector<char> bytes(bytes_of_plan(planner.plan()));
    plan = copy_plan(planner.plan(), bytes.data(), tables.get());
    check(cudaMemcpy(tables.get(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
  }
};

void check_images(const Data& data, int64_t count, InferMode mode, bool in_shared, int64_t most_blocks) {
  const Images images(data, count);
  const std::vector<float> w = rows();
  const Planned planned;
  cuda::InferGrid grid = cuda::infer_grid(planned.plan);
  grid.in_shared = grid.in_shared && in_shared;
  grid.blocks = std::min(grid.blocks, most_blocks);

  const OnDevice<float> weights(w), scale({data.scale, data.scale + 2}), shift({data.shift, data.shift + 2});
  const OnDevice<uint8_t> pixels(images.pixels), predictions(std::vector<uint8_t>(kModels * count, 0xa5));
  const OnDevice<float> found(std::vector<float>(kModels * count * kClasses, NAN));
  const OnDevice<int64_t> labels(images.labels), correct(std::vector<int64_t>(kModels, 0));
  const OnDevice<double> loss(std::vector<double>(kModels, 0.0));
  cuda::InferRun run{};
  run.plan = planned.plan;
  run.mode = mode;
  run.models = kModels;
  run.parameters = kParameters;
  run.weights = weights.get();
  run.pixels = {pixels.get(), nullptr, scale.get(), shift.get()};
  run.images = run.all_images = count;
  run.labels = labels.get();
  const Scratch scratch(planned.plan, grid, run.tiles_count());
  scratch.lend(run);

  launch_infer_tiles(run, kStream);
  launch_infer_lists(run, kStream);
  run.scores = found.get();
  launch_infer(run, grid, kStream);
  run.scores = nullptr;
  run.predictions_u8 = predictions.get();
  launch_infer(run, grid, kStream);
  launch_infer_sums(run, loss.get(), correct.get(), kStream);
  const std::vector<float> scores = found.read();
  expect_scores(images, w, scores);
  expect_verdicts(images, scores, predictions.read(), loss.read(), correct.read());
}

}  // namespace
}  // namespace zoosparse::test

// With an argument, little enough for compute-sanitizer.
int main(int argc, char**) {
  using namespace zoosparse;
  using namespace zoosparse::test;
  if (!has_device()) return kSkipped;
  const Data data;
  std::vector<InferMode> modes{InferMode::automatic};  // some layers as lists, others dense
  if (argc == 1) modes.insert(modes.end(), {InferMode::dense, InferMode::sparse});
  for (const int64_t images : argc > 1 ? std::vector<int64_t>{33} : std::vector<int64_t>{0, 1, 31, 32, 33, 100})
    for (const InferMode mode : modes)
      for (const bool in_shared : {false, true}) check_images(data, images, mode, in_shared, images == 100 ? 1 : 4);
  return failures != 0;
}
