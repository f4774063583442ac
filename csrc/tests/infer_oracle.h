// A program with everything that inference knows, and loops over single images written for clarity to run it.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "common/infer_plan.h"

namespace zoosparse::test {

inline TrainOp op(OpKind kind, int c, int h, int w, int out_c, int out_h, int out_w, int kernel, int stride,
                  int padding, int64_t weight = 0, int64_t bias = -1,
                  ActivationKind activation = ActivationKind::identity, float value = 0) {
  return {kind,   c,      h,       w,       out_c,  out_h, out_w,      kernel, kernel,
          stride, stride, padding, padding, weight, bias,  activation, value,  0.0f};
}

// conv k5, max pool 2, tanh, padded conv of stride 2, gelu, max pool 3 of stride 2 with a border, dropout, flatten,
// linear, leaky ReLU, linear.
inline std::vector<TrainOp> program() {
  return {op(OpKind::conv2d, 2, 29, 27, 7, 25, 23, 5, 1, 0, 0, 350),
          op(OpKind::max_pool2d, 7, 25, 23, 7, 12, 11, 2, 2, 0),
          op(OpKind::activation, 7, 12, 11, 7, 12, 11, 1, 1, 0, 0, -1, ActivationKind::tanh),
          op(OpKind::conv2d, 7, 12, 11, 6, 6, 6, 3, 2, 1, 357, 735),
          op(OpKind::activation, 6, 6, 6, 6, 6, 6, 1, 1, 0, 0, -1, ActivationKind::gelu),
          op(OpKind::max_pool2d, 6, 6, 6, 6, 3, 3, 3, 2, 1),
          op(OpKind::dropout, 6, 3, 3, 6, 3, 3, 1, 1, 0, 0, -1, ActivationKind::identity, 0.25f),
          op(OpKind::flatten, 6, 3, 3, 54, 1, 1, 1, 1, 0),
          op(OpKind::linear, 54, 1, 1, 17, 1, 1, 1, 1, 0, 741, 1659),
          op(OpKind::activation, 17, 1, 1, 17, 1, 1, 1, 1, 0, 0, -1, ActivationKind::leaky_relu, -0.2f),
          op(OpKind::linear, 17, 1, 1, 5, 1, 1, 1, 1, 0, 1676)};
}

// What the first one leaves out: strides of 3 across, a plain border, means of windows and of whole planes, activations
// that stand alone or may not move behind a pool, one output in a row.
inline std::vector<TrainOp> averaging_program() {
  TrainOp mean_of_planes = op(OpKind::global_avg_pool2d, 9, 2, 1, 9, 1, 1, 2, 2, 0);
  mean_of_planes.kernel_width = mean_of_planes.stride_width = 1;
  return {op(OpKind::activation, 2, 29, 27, 2, 29, 27, 1, 1, 0, 0, -1, ActivationKind::relu),
          op(OpKind::conv2d, 2, 29, 27, 5, 10, 9, 4, 3, 1, 0, 160),
          op(OpKind::activation, 5, 10, 9, 5, 10, 9, 1, 1, 0, 0, -1, ActivationKind::silu),
          op(OpKind::max_pool2d, 5, 10, 9, 5, 5, 4, 2, 2, 0),
          op(OpKind::avg_pool2d, 5, 5, 4, 5, 4, 3, 2, 1, 0),
          op(OpKind::activation, 5, 4, 3, 5, 4, 3, 1, 1, 0, 0, -1, ActivationKind::sigmoid),
          op(OpKind::conv2d, 5, 4, 3, 9, 2, 1, 3, 1, 0, 165),
          mean_of_planes,
          op(OpKind::flatten, 9, 1, 1, 9, 1, 1, 1, 1, 0),
          op(OpKind::linear, 9, 1, 1, 5, 1, 1, 1, 1, 0, 570, 615)};
}
constexpr int64_t kParameters = 1761, kImages = 16, kPixels = 2 * 29 * 27;
constexpr int kClasses = 5;

inline uint32_t scramble(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

inline std::vector<float> weights(int kept_percent) {
  std::vector<float> w;
  for (uint32_t i = 0; i < kParameters; ++i) {
    const bool kept = static_cast<int>(scramble(i + 90001) % 100) < kept_percent;
    w.push_back(kept ? static_cast<float>(scramble(i) % 2001) / 4000.0f - 0.25f : 0.0f);
  }
  return w;
}

inline double activate(const TrainOp& op, double x) {
  switch (op.activation) {
    case ActivationKind::tanh:
      return std::tanh(x);
    case ActivationKind::gelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case ActivationKind::leaky_relu:
      return x > 0 ? x : x * op.value;
    case ActivationKind::relu:
      return std::fmax(x, 0);
    case ActivationKind::sigmoid:
      return 1 / (1 + std::exp(-x));
    case ActivationKind::silu:
      return x / (1 + std::exp(-x));
    default:
      return x;
  }
}

// One window of a convolution or pool at output (o, y, x).
inline double window(const TrainOp& op, const std::vector<double>& in, const float* w, int o, int y, int x) {
  const bool largest = op.kind == OpKind::max_pool2d;
  const bool pool = op.kind != OpKind::conv2d && op.kind != OpKind::linear;
  double result = largest ? -INFINITY : !pool && op.bias >= 0 ? w[op.bias + o] : 0.0;
  for (int c = pool ? o : 0; c < (pool ? o + 1 : op.in_channels); ++c)
    for (int i = 0; i < op.kernel_height; ++i)
      for (int j = 0; j < op.kernel_width; ++j) {
        const int row = y * op.stride_height - op.padding_height + i,
                  column = x * op.stride_width - op.padding_width + j;
        if (row < 0 || row >= op.in_height || column < 0 || column >= op.in_width) continue;
        const double value = in[(c * op.in_height + row) * op.in_width + column];
        if (pool) {
          result = largest ? std::fmax(result, value) : result + value / (op.kernel_height * op.kernel_width);
          continue;
        }
        const int64_t tap = ((int64_t{o} * op.in_channels + c) * op.kernel_height + i) * op.kernel_width + j;
        result += w[op.weight + tap] * value;
      }
  return result;
}

inline std::vector<double> scores(const std::vector<TrainOp>& ops, const float* w, std::vector<double> hidden) {
  for (const TrainOp& op : ops) {
    if (op.kind == OpKind::flatten || op.kind == OpKind::dropout) continue;
    if (op.kind == OpKind::activation) {
      for (double& x : hidden) x = activate(op, x);
      continue;
    }
    std::vector<double> out;
    for (int o = 0; o < op.out_channels; ++o)
      for (int y = 0; y < op.out_height; ++y)
        for (int x = 0; x < op.out_width; ++x) out.push_back(window(op, hidden, w, o, y, x));
    hidden = out;
  }
  return hidden;
}

struct Data {
  std::vector<uint8_t> pixels;
  std::vector<int64_t> labels;
  float scale[2] = {1 / 64.0f, 1 / 80.0f}, shift[2] = {-2.0f, -1.5f};

  Data() {
    for (uint32_t i = 0; i < kImages * kPixels; ++i) pixels.push_back(static_cast<uint8_t>(scramble(i)));
    for (int64_t i = 0; i < kImages; ++i) labels.push_back(i * 3 % kClasses);
  }
  InferImages images() const { return {pixels.data(), nullptr, scale, shift}; }
  std::vector<double> image(int64_t m) const {
    std::vector<double> values;
    for (int64_t i = 0; i < kPixels; ++i)
      values.push_back(pixels[static_cast<size_t>(m * kPixels + i)] * double{scale[i / (29 * 27)]} +
                       shift[i / (29 * 27)]);
    return values;
  }
};

}  // namespace zoosparse::test
