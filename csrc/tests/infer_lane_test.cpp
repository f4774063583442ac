// What a lane of the CUDA engine computes, on the CPU: all lanes of all warps in turn, stage by stage, against loops
// over single images.
#include "cuda/infer_lane.h"

#include <cmath>
#include <cstdlib>
#include <vector>

#include "common/infer_planner.h"
#include "cuda/infer_copy.h"
#include "tests/expect.h"
#include "tests/infer_oracle.h"

namespace zoosparse::test {
namespace {

enum class Mode { automatic, dense, sparse };

// The lists of a model, as csrc/cuda/infer.cu makes them.
struct Lists {
  std::vector<SparseTap> taps;
  std::vector<int32_t> counts, sparse;

  Lists(const InferPlan& plan, const std::vector<float>& w, Mode mode) : taps(w.size()) {
    for (int s = 0; s < plan.count; ++s) {
      const InferStage& stage = plan.stages[s];
      if (stage.kind != InferKind::convolution) continue;
      int64_t kept = 0;
      for (int o = 0; o < stage.op.out_channels; ++o) {
        const int64_t first = stage.op.weight + static_cast<int64_t>(o) * stage.taps;
        int32_t count = 0;
        for (int k = 0; k < stage.taps; ++k)
          if (w[first + k] != 0.0f) taps[first + count++] = {stage.tap_offset[k], w[first + k]};
        counts.push_back(count);
        kept += count;
      }
      const bool pays = list_pays(kept, static_cast<int64_t>(stage.taps) * stage.op.out_channels);
      sparse.push_back(mode == Mode::automatic ? pays : mode == Mode::sparse);
    }
  }
};

// The stages of a model on a tile, all lanes of all warps in turn. Memory is as large as on the device.
struct Tile {
  int64_t image_vectors;
  std::vector<float> image, hidden;

  Tile(const InferPlan& plan, const Data& data)
      : image_vectors(static_cast<int64_t>(plan.image.channels) * plan.image.plane),
        image(image_vectors * kTileImages),
        hidden((plan.scratch - image_vectors) * kTileImages) {
    for (int m = 0; m < kImages; ++m)
      for (int64_t pixel = 0; pixel < kPixels; ++pixel)
        image[place_of_pixel(plan.image, pixel) * kTileImages + m] =
            pixel_of_image(plan.image, data.images(), m, pixel);
  }
  LaneMemory lane(int lane) { return {image.data() + lane, hidden.data() + lane, image_vectors}; }

  void run(const InferPlan& plan, const LaneModel& model, int warps, bool last_warp_first) {
    for (int s = 0; s < plan.count; ++s)
      for (int turn = 0; turn < warps; ++turn)
        for (int l = 0; l < kTileImages; ++l)
          stage_of_lane(plan.stages[s], model, lane(l), {last_warp_first ? warps - 1 - turn : turn, warps});
  }
};

void test_tile(const std::vector<TrainOp>& ops, const Data& data, const std::vector<float>& w, Mode mode, int warps) {
  const InferPlanner planner(ops, kTileImages);
  std::vector<char> elsewhere(bytes_of_plan(planner.plan()));
  const InferPlan plan = copy_plan(planner.plan(), elsewhere.data(), elsewhere.data());
  const Lists lists(plan, w, mode);
  const LaneModel model{w.data(), lists.taps.data(), lists.counts.data(), lists.sparse.data()};
  Tile tile(plan, data), other(plan, data);
  tile.run(plan, model, warps, false);
  other.run(plan, model, warps, true);
  expect(tile.hidden == other.hidden, "warps do not meet within a stage", "lane", warps);
  tile.run(plan, model, warps, false);  // the next model finds what this one left
  expect(tile.hidden == other.hidden, "memory of the model before", "lane", warps);

  for (int m = 0; m < kImages; ++m) {
    const float* found = scores_of_lane(plan, tile.lane(m));
    const std::vector<double> expected = scores(ops, w.data(), data.image(m));
    const int64_t label = data.labels[m];
    double sum = 0, furthest = 0;
    int best = 0;
    for (int c = 0; c < kClasses; ++c) {
      furthest = std::fmax(furthest, std::fabs(expected[c] - found[c * kTileImages]));
      sum += std::exp(expected[c]);
      if (found[c * kTileImages] > found[best * kTileImages]) best = c;
    }
    const LaneVerdict verdict = judge_lane(found, kClasses, label);
    expect(furthest < 1e-5, "scores", "lane", m);
    expect(verdict.predicted == best, "prediction", "lane", m);
    expect(std::fabs(verdict.loss - (std::log(sum) - expected[label])) < 1e-5, "loss", "lane", m);
  }
}

void test_verdicts_at_the_edges() {
  const float nan = NAN, inf = INFINITY;
  const auto judge = [](std::vector<float> scores, int64_t label) {
    std::vector<float> lanes(scores.size() * kTileImages);
    for (size_t c = 0; c < scores.size(); ++c) lanes[c * kTileImages] = scores[c];
    return judge_lane(lanes.data(), static_cast<int>(scores.size()), label);
  };
  expect(judge({nan, nan}, 0).predicted == 0 && std::isnan(judge({nan, nan}, 0).loss), "all NaN", "lane", 2);
  expect(judge({nan, 1, 2}, 2).predicted == 2 && std::isnan(judge({nan, 1, 2}, 2).loss), "NaN", "lane", 3);
  expect(judge({1, 3, 3}, 0).predicted == 1, "ties", "lane", 3);
  expect(judge({-inf, 0}, 0).loss == inf && judge({-inf, 0}, 1).loss == 0, "-inf", "lane", 2);
}

void test_activations() {
  for (int i = -4000; i <= 4000; ++i) {
    const float x = static_cast<float>(i) / 200;
    const double d = x, sigmoid = 1 / (1 + std::exp(-d));
    const auto close = [&](ActivationKind kind, double expected, const char* name) {
      const double error = std::fabs(activated_as(kind, 0.1f, x).value - expected);
      expect(error <= 2e-6 * std::fmax(1.0, std::fabs(expected)), name, "activation", i);
    };
    close(ActivationKind::identity, d, "identity");
    close(ActivationKind::relu, std::fmax(d, 0), "relu");
    close(ActivationKind::leaky_relu, d > 0 ? d : 0.1 * d, "leaky relu");
    close(ActivationKind::tanh, std::tanh(d), "tanh");
    close(ActivationKind::sigmoid, sigmoid, "sigmoid");
    close(ActivationKind::silu, d * sigmoid, "silu");
    close(ActivationKind::gelu, 0.5 * d * (1 + std::erf(d / std::sqrt(2.0))), "gelu");
  }
  expect(std::isnan(activated_as(ActivationKind::relu, 0, NAN).value), "NaN", "activation", 0);
}

}  // namespace
}  // namespace zoosparse::test

int main() {
  using namespace zoosparse::test;
  const Data data;
  test_activations();
  test_verdicts_at_the_edges();
  for (const int kept : {0, 1, 10, 50, 100})
    for (const Mode mode : {Mode::automatic, Mode::dense, Mode::sparse})
      for (const int warps : {1, 3, 16})
        for (const auto& ops : {program(), averaging_program()}) test_tile(ops, data, weights(kept), mode, warps);
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
