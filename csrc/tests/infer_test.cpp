// The inference engine without torch: every instruction set and every number of images in a block, dense and sparse,
// against loops over single images written for clarity.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "common/infer_planner.h"
#include "cpu/aligned.h"
#include "cpu/infer_model.h"
#include "cpu/simd/infer.h"
#include "tests/infer_oracle.h"
#include "tests/variants.h"

ZOOSPARSE_VARIANTS(InferKernels, infer_kernels)

namespace zoosparse::test {
namespace {

constexpr double kLargestPixel = 10;

// A block of `count` images from `first` on.
void test_block(const Variant<InferKernels>& variant, const Data& data, const std::vector<float>& w, InferMode mode,
                int64_t first, int count) {
  const std::vector<TrainOp> ops = program();
  const InferKernels& kernels = *variant.table;
  const InferPlanner planner(ops, kernels.lanes);
  const InferPlan& plan = planner.plan();
  const PreparedModel model(plan, w.data(), count % 2 ? kLargestPixel : HUGE_VAL, mode, {});
  expect(model.view().finite == (count % 2 == 1), "finite", variant.name, count);
  const AlignedFloats owner = aligned_floats(plan.vectors * kernels.lanes);
  float* const memory = owner.get();
  std::fill_n(memory, plan.vectors * kernels.lanes, 0.0f);
  kernels.load_images(plan, data.images(), first, count, memory);
  kernels.forward(plan, model.view(), 0, memory);
  int32_t predictions[64];
  const InferVerdict verdict = kernels.judge(plan, data.labels.data() + first, count, memory, predictions);

  double loss = 0, furthest = 0;
  int64_t correct = 0;
  for (int lane = 0; lane < count; ++lane) {
    const std::vector<double> expected = scores(ops, w.data(), data.image(first + lane));
    double sum = 0;
    int best = 0;
    for (int c = 0; c < kClasses; ++c) {
      furthest = std::fmax(furthest, std::fabs(expected[c] - memory[(plan.scores + c) * kernels.lanes + lane]));
      sum += std::exp(expected[c]);
      if (memory[(plan.scores + c) * kernels.lanes + lane] > memory[(plan.scores + best) * kernels.lanes + lane])
        best = c;
    }
    const int64_t label = data.labels[first + lane];
    loss += std::log(sum) - expected[label];
    correct += best == label;
    expect(predictions[lane] == best, "prediction", variant.name, lane);
  }
  expect(furthest < 1e-5, "scores", variant.name, count);
  expect(std::fabs(verdict.loss - loss) < 1e-5 * count, "loss", variant.name, count);
  expect(verdict.correct == correct, "correct", variant.name, count);
}

// Stages: convolution, its pool and activation; convolution and activation; pool; linear and activation; linear.
void test_stages_shared(InferMode mode) {
  const std::vector<TrainOp> ops = program();
  const InferPlanner planner(ops, 16);
  const InferPlan& plan = planner.plan();
  const std::vector<float> w = weights(50);
  const PreparedModel model(plan, w.data(), kLargestPixel, mode, {});
  const auto shared = [&](int64_t column, float value) {
    std::vector<float> other = w;
    other[static_cast<size_t>(column)] = value;
    return PreparedModel(plan, other.data(), kLargestPixel, mode, {}).stages_shared_with(model, plan);
  };
  const char* name = mode == InferMode::sparse ? "sparse" : "dense";
  expect(shared(0, w[0]) == plan.count, "all stages shared", name, plan.count);
  expect(shared(0, 0.5f) == 0 && shared(349, -0.5f) == 0, "no stage shared: weights", name, 0);
  expect(shared(350, 0.5f) == 0, "no stage shared: bias", name, 0);
  expect(shared(357, 0.75f) == 1 && shared(735, 0.75f) == 1, "one stage shared", name, 1);
  expect(shared(741, 0.75f) == 3 && shared(1676, 0.75f) == 4, "three and four stages shared", name, 3);
}

void test_stays_finite() {
  const std::vector<TrainOp> ops = program();
  const InferPlanner planner(ops, 16);
  std::vector<float> w = weights(50);
  const auto finite = [&](double pixel) { return stays_finite(planner.plan(), w.data(), pixel); };
  const auto with = [&](int64_t column, float value) {
    const float before = std::exchange(w[static_cast<size_t>(column)], value);
    const bool result = finite(kLargestPixel);
    w[static_cast<size_t>(column)] = before;
    return result;
  };
  expect(finite(kLargestPixel) && finite(1e20), "finite", "", 0);
  expect(!finite(HUGE_VAL) && !finite(NAN) && !finite(1e30), "pixels", "", 0);
  for (const int64_t column : {0, 350, 357, 1676, static_cast<int>(w.size()) - 1}) {
    expect(!with(column, NAN) && !with(column, HUGE_VALF) && !with(column, -HUGE_VALF), "a weight", "", column);
    expect(!with(column, 1e31f) && with(column, 1e15f), "a large weight", "", column);
  }
  w[0] = 1e20f, w[357] = 1e20f;
  expect(!finite(kLargestPixel), "large weights of two layers", "", 0);
}

}  // namespace
}  // namespace zoosparse::test

int main() {
  using namespace zoosparse;
  const test::Data data;
  const auto variants = test::variants();
  for (int kept : {0, 1, 10, 50, 100}) {
    std::vector<float> w = test::weights(kept);
    if (kept == 50)  // the second convolution reads two of seven channels
      for (size_t i = 0; i < 6 * 7 * 9; ++i) w[357 + i] *= i / 9 % 7 < 2;
    for (const auto& variant : variants)
      for (InferMode mode : {InferMode::automatic, InferMode::dense, InferMode::sparse})
        for (int count = 1; count <= variant.table->lanes; count += 1 + count % 4)
          test::test_block(variant, data, w, mode, variant.table->lanes == 16 ? 0 : 4, count);
  }
  for (InferMode mode : {InferMode::dense, InferMode::sparse}) test::test_stages_shared(mode);
  test::test_stays_finite();
  return test::failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
