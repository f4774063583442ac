// Inference of one model on W images, one image per lane: from pixels to scores, losses and predictions.
#include "cpu/simd/infer.h"

#include "cpu/simd/infer_conv.inl"

#ifndef ZOOSPARSE_INFER_LANES
#define ZOOSPARSE_INFER_LANES (kVectorBytes / 4)
#endif

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

template <class Pixel>
void load_pixels(const InferPlan& plan, const InferImages& images, const Pixel* pixels, int64_t first, int count,
                 int lanes, float* memory) {
  const InferLayout& image = plan.image;
  const int64_t elements = static_cast<int64_t>(image.channels) * image.height * image.width;
  for (int lane = 0; lane < lanes; ++lane) {
    const Pixel* pixel = pixels + (first + lane) * elements;
    for (int c = 0; c < image.channels; ++c)
      for (int y = 0; y < image.height; ++y) {
        float* row = memory + row_of(image, c, y) * lanes + lane;
        for (int x = 0; x < image.width; ++x) {
          const float value = lane < count ? static_cast<float>(*pixel++) * images.scale[c] + images.shift[c] : 0.0f;
          row[static_cast<int64_t>(column_of(image, x)) * lanes] = value;
        }
      }
  }
}

template <int W>
void load_images(const InferPlan& plan, const InferImages& images, int64_t first, int count, float* memory) {
  if (images.u8 != nullptr)
    load_pixels(plan, images, images.u8, first, count, W, memory);
  else
    load_pixels(plan, images, images.f32, first, count, W, memory);
}

// Calls body(output, element of the window or null outside the input) for every element of the window of (c, y, x).
template <int W, class Body>
void for_window(const InferStage& stage, int c, int y, int x, const Floats<W>* memory, const Body& body) {
  const TrainOp& op = stage.op;
  for (int i = 0; i < op.kernel_height; ++i)
    for (int j = 0; j < op.kernel_width; ++j) {
      const int row = y * op.stride_height - op.padding_height + i, column = x * op.stride_width - op.padding_width + j;
      if (row >= 0 && row < stage.in.height && column >= 0 && column < stage.in.width)
        body(memory[row_of(stage.in, c, row) + column_of(stage.in, column)]);
    }
}

template <int W>
Floats<W> max_of_window(const InferStage& stage, int c, int y, int x, const Floats<W>* memory) {
  Floats<W> best = broadcast<W>(-__builtin_inff());
  for_window<W>(stage, c, y, x, memory,
                [&](Floats<W> value) { best = (value > best) | (value != value) ? value : best; });
  return best;
}

template <int W>
Floats<W> mean_of_window(const InferStage& stage, int c, int y, int x, const Floats<W>* memory) {
  Floats<W> sum{};
  for_window<W>(stage, c, y, x, memory, [&](Floats<W> value) { sum += value; });
  return sum * (1.0f / static_cast<float>(stage.op.kernel_height * stage.op.kernel_width));
}

// out(c, y, x) = activation(value(c, y, x)) for stages without weights.
template <int W, class Value>
void element_by_element(const InferStage& stage, Floats<W>* memory, const Value& value) {
  with_activation<W>(stage.activation, stage.slope, [&](const auto& function) {
    for (int c = 0; c < stage.out.channels; ++c)
      for (int y = 0; y < stage.out.height; ++y) {
        Floats<W>* row = memory + row_of(stage.out, c, y);
        for (int x = 0; x < stage.out.width; ++x) row[stage.out_column[x]] = function(value(c, y, x)).value;
      }
  });
}

template <int W>
void run_stage(const InferPlan& plan, const InferStage& stage, const InferModel& model, Floats<W>* memory) {
  switch (stage.kind) {
    case InferKind::convolution:
      return stage.pool == 2 ? convolution<W, 2>(plan, stage, model, memory)
                             : convolution<W, 1>(plan, stage, model, memory);
    case InferKind::max_pool:
      return element_by_element<W>(stage, memory,
                                   [&](int c, int y, int x) { return max_of_window<W>(stage, c, y, x, memory); });
    case InferKind::average_pool:
      return element_by_element<W>(stage, memory,
                                   [&](int c, int y, int x) { return mean_of_window<W>(stage, c, y, x, memory); });
    case InferKind::copy:
      return element_by_element<W>(
          stage, memory, [&](int c, int y, int x) { return memory[row_of(stage.in, c, y) + column_of(stage.in, x)]; });
  }
}

template <int W>
void forward(const InferPlan& plan, const InferModel& model, int32_t first_stage, float* memory) {
  for (int32_t s = first_stage; s < plan.count; ++s)
    run_stage<W>(plan, plan.stages[s], model, reinterpret_cast<Floats<W>*>(memory));
}

// A prediction is the first of the largest scores, NaN counted as the smallest; a NaN among the scores makes a NaN
// loss.
template <int W>
InferVerdict judge(const InferPlan& plan, const int64_t* labels, int count, const float* memory, int32_t* predictions) {
  const Floats<W>* score = reinterpret_cast<const Floats<W>*>(memory) + plan.scores;
  Ints<W> label{}, best{};
  for (int lane = 0; lane < count; ++lane) label[lane] = static_cast<int32_t>(labels[lane]);
  Floats<W> largest = broadcast<W>(-__builtin_inff()), of_label{}, sum{};
  for (int c = 0; c < plan.classes; ++c) {
    const Ints<W> larger = score[c] > largest;
    largest = larger ? score[c] : largest;
    best = larger ? Ints<W>{} + c : best;
    of_label = label == Ints<W>{} + c ? score[c] : of_label;
  }
  for (int c = 0; c < plan.classes; ++c) sum += exponential<W>(score[c] - largest);
  const Floats<W> nan_or_zero = sum - sum;  // logarithm() knows no NaN
  const Floats<W> loss = logarithm<W>(sum) + (largest - of_label) + nan_or_zero;
  InferVerdict verdict{};
  for (int lane = 0; lane < count; ++lane) {
    verdict.loss += static_cast<double>(loss[lane]);
    verdict.correct += best[lane] == label[lane];
    predictions[lane] = best[lane];
  }
  return verdict;
}

}  // namespace

extern const InferKernels infer_kernels;
const InferKernels infer_kernels = {ZOOSPARSE_INFER_LANES, &load_images<ZOOSPARSE_INFER_LANES>,
                                    &forward<ZOOSPARSE_INFER_LANES>, &judge<ZOOSPARSE_INFER_LANES>};

}  // namespace zoosparse::ZOOSPARSE_ISA
