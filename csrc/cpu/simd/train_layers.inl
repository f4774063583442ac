// Layers without weights, and the loss; models in the lanes. Gradients of element-wise layers are formed in place.
#pragma once

#include "common/formulas.h"
#include "common/params.h"
#include "cpu/simd/math.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// Calls body(x -> Activated) with the activation's formula.
template <int W, class Body>
inline void with_activation(ActivationKind kind, float slope, const Body& body) {
  typedef Floats<W> F;
  typedef Lanes<W> M;
  switch (kind) {
    case ActivationKind::identity:
      return body([](F x) ZOOSPARSE_LAMBDA { return Activated<M>{x, {}}; });
    case ActivationKind::relu:
      return body([](F x) ZOOSPARSE_LAMBDA { return activated<ActivationKind::relu, M>(x, 0.0f); });
    case ActivationKind::leaky_relu:
      return body([slope](F x) ZOOSPARSE_LAMBDA { return activated<ActivationKind::leaky_relu, M>(x, slope); });
    case ActivationKind::tanh:
      return body([](F x) ZOOSPARSE_LAMBDA { return activated<ActivationKind::tanh, M>(x, 0.0f); });
    case ActivationKind::sigmoid:
      return body([](F x) ZOOSPARSE_LAMBDA { return activated<ActivationKind::sigmoid, M>(x, 0.0f); });
    case ActivationKind::silu:
      return body([](F x) ZOOSPARSE_LAMBDA { return activated<ActivationKind::silu, M>(x, 0.0f); });
    case ActivationKind::gelu:
      return body([](F x) ZOOSPARSE_LAMBDA { return activated<ActivationKind::gelu, M>(x, 0.0f); });
  }
}

// Calls body(y -> dy/dx), for activations whose derivative follows from their value.
template <int W, class Body>
inline void with_derivative(ActivationKind kind, float slope, const Body& body) {
  typedef Floats<W> F;
  typedef Lanes<W> M;
  switch (kind) {
    case ActivationKind::relu:
      return body([](F y) ZOOSPARSE_LAMBDA { return derivative_at<ActivationKind::relu, M>(y, 0.0f); });
    case ActivationKind::leaky_relu:
      return body([slope](F y) ZOOSPARSE_LAMBDA { return derivative_at<ActivationKind::leaky_relu, M>(y, slope); });
    case ActivationKind::tanh:
      return body([](F y) ZOOSPARSE_LAMBDA { return derivative_at<ActivationKind::tanh, M>(y, 0.0f); });
    case ActivationKind::sigmoid:
      return body([](F y) ZOOSPARSE_LAMBDA { return derivative_at<ActivationKind::sigmoid, M>(y, 0.0f); });
    default:
      return;
  }
}

// `saved` is null where the derivative follows from the output.
template <int W>
void activate(const TrainOp& op, const Floats<W>* input, Floats<W>* output, Floats<W>* saved, int count) {
  with_activation<W>(op.activation, op.value, [=](const auto& function) {
    for (int i = 0; i < count; ++i) {
      const Activated<Lanes<W>> result = function(input[i]);
      output[i] = result.value;
      if (saved != nullptr) saved[i] = result.derivative;
    }
  });
}

template <int W>
void activation_gradient(const TrainOp& op, const Floats<W>* output, const Floats<W>* saved, Floats<W>* gradient,
                         int count) {
  for (int i = 0; saved != nullptr && i < count; ++i) gradient[i] *= saved[i];
  if (saved != nullptr) return;
  with_derivative<W>(op.activation, op.value, [=](const auto& derivative) {
    for (int i = 0; i < count; ++i) gradient[i] *= derivative(output[i]);
  });
}

// A block [rows][columns] of one channel that a pool cuts into windows; they do not overlap.
struct PoolBlock {
  int rows, columns, height, width;
};

// Calls body(corner of the window, pool) for every window; the usual size is known to the compiler.
template <class Body>
ZOOSPARSE_INLINE void for_pool_windows(PoolBlock pool, const Body& body) {
  const auto windows = [&](PoolBlock p) ZOOSPARSE_LAMBDA {
    for (int y = 0; y < p.rows; y += p.height)
      for (int x = 0; x < p.columns; x += p.width) body(y * p.columns + x, p);
  };
  if (pool.height == 2 && pool.width == 2) return windows({pool.rows, pool.columns, 2, 2});
  windows(pool);
}

// Largest of each window, the first of equals, and which it was. With a deviation (variational dropout): that of the
// winner is what reaches the output.
template <int W, bool with_deviation>
void pool_block(const Floats<W>* block, const Floats<W>* deviation, PoolBlock shape, Floats<W>* output, Ints<W>* winner,
                Floats<W>* out_deviation) {
  for_pool_windows(shape, [&](int corner, PoolBlock pool) ZOOSPARSE_LAMBDA {
    Floats<W> best = block[corner], spread{};
    if constexpr (with_deviation) spread = deviation[corner];
    Ints<W> which{};
    for (int i = 0; i < pool.height; ++i)
      for (int j = 0; j < pool.width; ++j) {
        const int at = corner + i * pool.columns + j;
        const Ints<W> larger = block[at] > best;
        best = larger ? block[at] : best;
        which = larger ? Ints<W>{} + (i * pool.width + j) : which;
        if constexpr (with_deviation) spread = larger ? deviation[at] : spread;
      }
    *output++ = best;
    *winner++ = which;
    if constexpr (with_deviation) *out_deviation++ = spread;
  });
}

// The inverse: a block of gradients, zero but where the pool took its value.
template <int W>
void unpool_block(const Floats<W>* gradient, const Ints<W>* winner, PoolBlock shape, Floats<W>* block) {
  for_pool_windows(shape, [&](int corner, PoolBlock pool) ZOOSPARSE_LAMBDA {
    const Floats<W> value = *gradient++;
    const Ints<W> which = *winner++;
    for (int i = 0; i < pool.height; ++i)
      for (int j = 0; j < pool.width; ++j)
        block[corner + i * pool.columns + j] = which == Ints<W>{} + (i * pool.width + j) ? value : Floats<W>{};
  });
}

// Calls body(output element, input element, place in the window) for all inputs of all windows.
template <class Body>
inline void for_windows(const TrainOp& op, const Body& body) {
  int output = 0;
  for (int c = 0; c < op.out_channels; ++c)
    for (int y = 0; y < op.out_height; ++y)
      for (int x = 0; x < op.out_width; ++x, ++output)
        for (int i = 0; i < op.kernel_height * op.kernel_width; ++i) {
          const int row = y * op.stride_height - op.padding_height + i / op.kernel_width;
          const int column = x * op.stride_width - op.padding_width + i % op.kernel_width;
          if (row >= 0 && row < op.in_height && column >= 0 && column < op.in_width)
            body(output, (c * op.in_height + row) * op.in_width + column, i);
        }
}

template <int W>
void max_pool(const TrainOp& op, const Floats<W>* input, Floats<W>* output, Ints<W>* winner) {
  for (int i = 0; i < op.out_channels * op.out_height * op.out_width; ++i) winner[i] = Ints<W>{} - 1;
  for_windows(op, [=](int to, int from, int place) {
    const Ints<W> larger = (input[from] > output[to]) | (winner[to] < 0);
    output[to] = larger ? input[from] : output[to];
    winner[to] = larger ? Ints<W>{} + place : winner[to];
  });
}

template <int W>
void max_pool_gradient(const TrainOp& op, const Floats<W>* gradient, const Ints<W>* winner, Floats<W>* input_gradient) {
  for (int i = 0; i < op.in_channels * op.in_height * op.in_width; ++i) input_gradient[i] = Floats<W>{};
  for_windows(op, [=](int to, int from, int place) {
    input_gradient[from] += winner[to] == Ints<W>{} + place ? gradient[to] : Floats<W>{};
  });
}

template <int W>
void average_pool(const TrainOp& op, const Floats<W>* input, Floats<W>* output) {
  const int count = op.out_channels * op.out_height * op.out_width;
  const float share = 1.0f / static_cast<float>(op.kernel_height * op.kernel_width);
  for (int i = 0; i < count; ++i) output[i] = Floats<W>{};
  for_windows(op, [=](int to, int from, int) { output[to] += input[from]; });
  for (int i = 0; i < count; ++i) output[i] *= share;
}

template <int W>
void average_pool_gradient(const TrainOp& op, const Floats<W>* gradient, Floats<W>* input_gradient) {
  const float share = 1.0f / static_cast<float>(op.kernel_height * op.kernel_width);
  for (int i = 0; i < op.in_channels * op.in_height * op.in_width; ++i) input_gradient[i] = Floats<W>{};
  for_windows(op, [=](int to, int from, int) { input_gradient[from] += gradient[to] * share; });
}

// `correct`: -1 where the label has the
// largest logit, and no other before it has the same.
template <int W>
struct LossOfSample {
  Floats<W> loss;
  Ints<W> correct;
};
// Mean square distance of the scores to the one-hot vector of the label; gradient with respect to scale * loss.
template <int W>
Floats<W> squared_error(const Floats<W>* logits, int classes, Ints<W> label, float scale, Floats<W>* gradient) {
  const float share = 1.0f / static_cast<float>(classes);
  Floats<W> sum{};
  for (int c = 0; c < classes; ++c) {
    const Floats<W> error = logits[c] - (label == Ints<W>{} + c ? broadcast<W>(1.0f) : Floats<W>{});
    sum += error * error;
    gradient[c] = error * (2.0f * share * scale);
  }
  return sum * share;
}

// Cross-entropy of the label; gradient = (softmax - one-hot) * scale.
template <int W>
Floats<W> cross_entropy(const Floats<W>* logits, int classes, Ints<W> label, float scale, Floats<W>* gradient) {
  Floats<W> largest = logits[0], of_label{}, sum{};
  for (int c = 0; c < classes; ++c) {
    const Ints<W> larger = logits[c] > largest;
    largest = larger ? logits[c] : largest;
    of_label = label == Ints<W>{} + c ? logits[c] : of_label;
  }
  for (int c = 0; c < classes; ++c) {
    gradient[c] = exponential<W>(logits[c] - largest);
    sum += gradient[c];
  }
  const Floats<W> factor = scale / sum;
  for (int c = 0; c < classes; ++c)
    gradient[c] = gradient[c] * factor - (label == Ints<W>{} + c ? broadcast<W>(scale) : Floats<W>{});
  return logarithm<W>(sum) + (largest - of_label);
}

template <int W>
LossOfSample<W> loss_of_sample(LossKind kind, const Floats<W>* logits, int classes, Ints<W> label, float scale,
                               Floats<W>* gradient) {
  Floats<W> largest = logits[0];
  Ints<W> prediction{};
  for (int c = 1; c < classes; ++c) {
    const Ints<W> larger = logits[c] > largest;
    largest = larger ? logits[c] : largest;
    prediction = larger ? Ints<W>{} + c : prediction;
  }
  const Floats<W> loss = kind == LossKind::squared_error ? squared_error<W>(logits, classes, label, scale, gradient)
                                                         : cross_entropy<W>(logits, classes, label, scale, gradient);
  return {loss, prediction == label};
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
