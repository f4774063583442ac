// Images, layers without weights, and the loss of one model on some samples.
#pragma once

#include "cuda/train_block.h"

namespace zoosparse {

// ---- Images ---------------------------------------------------------------------------------------------------------

// Words 0 to 2 of a sample's stream are down, right and, in the top bit, flipped.
template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void choose_moves(const Block<Team>& block, const SampleRun& run) {
  const int32_t crop = block.params.crop;
  const uint32_t places = static_cast<uint32_t>(2 * crop + 1);
  block.team.each(run.count, [&](int number) {
    ScalarStream random = block.stream(kAugmentStream, 0, run, number);
    auto* const move = reinterpret_cast<int32_t*>(block.sample(number) + block.plan.move);
    move[0] = static_cast<int32_t>(random.word(0) % places) - crop;
    move[1] = static_cast<int32_t>(random.word(1) % places) - crop;
    move[2] = block.params.flip && random.word(2) >> 31 != 0 ? 1 : 0;
  });
}

// Pixel (y, x) of a channel of image `index`; black is the pixel 0, before normalisation.
template <class Team>
ZOOSPARSE_HOST_DEVICE static inline float pixel_at(const Block<Team>& block, int64_t index, int channel, int y, int x) {
  const BlockPlan& plan = block.plan;
  if (static_cast<unsigned>(y) >= static_cast<unsigned>(plan.image_height) ||
      static_cast<unsigned>(x) >= static_cast<unsigned>(plan.image_width))
    return 0.0f;
  const int64_t at =
      index * block.params.image_elements + (int64_t{channel} * plan.image_height + y) * plan.image_width + x;
  return block.params.images_u8 != nullptr ? static_cast<float>(block.params.images_u8[at])
                                           : block.params.images_f32[at];
}

template <class Team>
ZOOSPARSE_HOST_DEVICE static inline int64_t image_of(const Block<Team>& block, const SampleRun& run, int number) {
  return block.params.order[block.model * block.params.order_stride + run.start + number];
}

template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void load_images(const Block<Team>& block, const SampleRun& run) {
  const BlockPlan& plan = block.plan;
  const bool moves = block.params.crop > 0 || block.params.flip;
  if (moves) {
    choose_moves(block, run);
    block.team.barrier();
  }
  const int plane = plan.image_height * plan.image_width;
  block.each_element(run.count, plan.image_channels * plane, [&](int number, int element) {
    float* const sample = block.sample(number);
    const int channel = element / plane;
    int y = element % plane / plan.image_width, x = element % plan.image_width;
    if (moves) {
      const auto* const move = reinterpret_cast<const int32_t*>(sample + plan.move);
      y += move[0];
      x = (move[2] != 0 ? plan.image_width - 1 - x : x) + move[1];
    }
    sample[plan.image + element] =
        pixel_at(block, image_of(block, run, number), channel, y, x) * block.params.channel_scale[channel] +
        block.params.channel_shift[channel];
  });
}

// ---- Activations and dropout ----------------------------------------------------------------------------------------

template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void activation_forward(const Block<Team>& block, const BlockStage& stage,
                                                            const SampleRun& run) {
  const bool saves = !derivative_from_output(stage.op);
  block.each_element(run.count, stage.out_elements, [&](int number, int element) {
    float* const sample = block.sample(number);
    const Activated<Scalar> result = activated_as(stage.op.activation, stage.op.value, sample[stage.input + element]);
    sample[stage.output + element] = result.value;
    if (saves) sample[stage.saved + element] = result.derivative;
  });
}

template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void activation_backward(const Block<Team>& block, const BlockStage& stage,
                                                             int samples, int gradient) {
  const bool saved = !derivative_from_output(stage.op);
  block.each_element(samples, stage.out_elements, [&](int number, int element) {
    float* const sample = block.sample(number);
    sample[gradient + element] *=
        saved ? sample[stage.saved + element]
              : derivative_as(stage.op.activation, stage.op.value, sample[stage.output + element]);
  });
}

template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void dropout_forward(const Block<Team>& block, const BlockStage& stage,
                                                         const SampleRun& run) {
  const float rate = block.params.dropout != nullptr ? block.params.dropout[block.model] : stage.op.value;
  const float scale = 1.0f / (1.0f - rate);
  block.each_element(run.count, stage.out_elements, [&](int number, int element) {
    float* const sample = block.sample(number);
    ScalarStream random = block.stream(kDropoutStream, stage.index, run, number);
    const bool kept = random.uniform(static_cast<uint32_t>(element)) >= rate;
    const float value = sample[stage.input + element];
    sample[stage.saved + element] = kept ? scale : 0.0f;
    sample[stage.output + element] = kept ? value * scale : 0.0f;
  });
}

template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void dropout_backward(const Block<Team>& block, const BlockStage& stage,
                                                          int samples, int gradient) {
  block.each_element(samples, stage.out_elements, [&](int number, int element) {
    float* const sample = block.sample(number);
    sample[gradient + element] *= sample[stage.saved + element];
  });
}

// ---- Pools that are stages of their own -----------------------------------------------------------------------------

ZOOSPARSE_HOST_DEVICE static inline float share_of_window(const TrainOp& op) {
  return 1.0f / static_cast<float>(op.kernel_height * op.kernel_width);
}

// Largest, the first of equals, or mean of every window.
template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void pool_forward(const Block<Team>& block, const BlockStage& stage,
                                                      const SampleRun& run) {
  const TrainOp& op = stage.op;
  const bool largest = op.kind == OpKind::max_pool2d;
  block.each_element(run.count, stage.out_elements, [&](int number, int element) {
    float* const sample = block.sample(number);
    const int plane = op.out_height * op.out_width, c = element / plane;
    const int top = element % plane / op.out_width * op.stride_height - op.padding_height;
    const int left = element % op.out_width * op.stride_width - op.padding_width;
    float result = 0.0f;
    int which = -1;
    for (int i = 0; i < op.kernel_height; ++i)
      for (int j = 0; j < op.kernel_width; ++j) {
        const int y = top + i, x = left + j;
        if (y < 0 || y >= op.in_height || x < 0 || x >= op.in_width) continue;
        const float value = sample[stage.input + (c * op.in_height + y) * op.in_width + x];
        if (!largest) {
          result += value;
        } else if (which < 0 || value > result) {
          result = value;
          which = i * op.kernel_width + j;
        }
      }
    sample[stage.output + element] = largest ? result : result * share_of_window(op);
    if (largest) reinterpret_cast<int32_t*>(sample + stage.saved)[element] = which;
  });
}

// The first output whose window reaches place `at`.
ZOOSPARSE_HOST_DEVICE static inline int first_window(int at, int kernel, int stride) {
  return at < kernel ? 0 : (at - kernel) / stride + 1;
}

// What all windows over an input pass on to it.
template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void pool_backward(const Block<Team>& block, const BlockStage& stage, int samples,
                                                       int gradient, int next) {
  const TrainOp& op = stage.op;
  const bool largest = op.kind == OpKind::max_pool2d;
  block.each_element(samples, stage.in_elements, [&](int number, int element) {
    float* const sample = block.sample(number);
    const auto* const winners = reinterpret_cast<const int32_t*>(sample + stage.saved);
    const int plane = op.in_height * op.in_width, c = element / plane;
    const int y = element % plane / op.in_width + op.padding_height, x = element % op.in_width + op.padding_width;
    float sum = 0.0f;
    for (int row = first_window(y, op.kernel_height, op.stride_height);
         row < op.out_height && row * op.stride_height <= y; ++row)
      for (int column = first_window(x, op.kernel_width, op.stride_width);
           column < op.out_width && column * op.stride_width <= x; ++column) {
        const int from = (c * op.out_height + row) * op.out_width + column;
        const int place = (y - row * op.stride_height) * op.kernel_width + x - column * op.stride_width;
        if (!largest)
          sum += sample[gradient + from] * share_of_window(op);
        else if (winners[from] == place)
          sum += sample[gradient + from];
      }
    sample[next + element] = sum;
  });
}

// ---- Loss -----------------------------------------------------------------------------------------------------------

// Mean square distance of the scores to the one-hot vector of the label; gradient with respect to scale * loss.
ZOOSPARSE_HOST_DEVICE static inline float squared_error(const float* scores, int classes, int64_t label, float scale,
                                                        float* gradient) {
  const float share = 1.0f / static_cast<float>(classes);
  float sum = 0.0f;
  for (int c = 0; c < classes; ++c) {
    const float error = scores[c] - (label == c ? 1.0f : 0.0f);
    sum += error * error;
    gradient[c] = error * (2.0f * share * scale);
  }
  return sum * share;
}

// Cross-entropy of the label; gradient = (softmax - one-hot) * scale.
ZOOSPARSE_HOST_DEVICE static inline float cross_entropy(const float* scores, int classes, int64_t label, float largest,
                                                        float scale, float* gradient) {
  float sum = 0.0f;
  for (int c = 0; c < classes; ++c) {
    gradient[c] = Scalar::exp(scores[c] - largest);
    sum += gradient[c];
  }
  const float factor = scale / sum;
  for (int c = 0; c < classes; ++c) gradient[c] = gradient[c] * factor - (label == c ? scale : 0.0f);
  return Scalar::log(sum) + (largest - scores[label]);
}

// Losses and right answers of the samples, and the gradients of their scores; a thread per sample.
template <class Team>
ZOOSPARSE_HOST_DEVICE static inline void judge_samples(const Block<Team>& block, const SampleRun& run) {
  const BlockPlan& plan = block.plan;
  block.team.each(run.count, [&](int number) {
    float* const sample = block.sample(number);
    const float* const scores = sample + plan.logits;
    float* const gradient = sample + plan.gradient[0];
    const int64_t label = block.params.labels[image_of(block, run, number)];
    int best = 0;
    for (int c = 1; c < plan.classes; ++c)
      if (scores[c] > scores[best]) best = c;
    sample[plan.verdict] = block.params.loss == LossKind::squared_error
                               ? squared_error(scores, plan.classes, label, run.share, gradient)
                               : cross_entropy(scores, plan.classes, label, scores[best], run.share, gradient);
    sample[plan.verdict + 1] = best == label ? 1.0f : 0.0f;
  });
  block.team.barrier();
  // In the order of the samples; the next barrier comes before anyone writes a verdict.
  block.team.each(1, [&](int) {
    for (int number = 0; number < run.count; ++number) {
      const float* const verdict = block.sample(number) + plan.verdict;
      block.memory.state->loss += verdict[0];
      block.memory.state->correct += verdict[1] != 0.0f;
    }
  });
}

}  // namespace zoosparse
