// A small population and programs for it, for every engine that trains.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "common/params.h"

namespace zoosparse::test {

inline TrainOp op(OpKind kind, int c, int h, int w, int out_c, int out_h, int out_w, int kernel, int stride,
                  int padding, int64_t weight = 0, int64_t bias = -1,
                  ActivationKind activation = ActivationKind::identity, float value = 0) {
  return {kind,   c,      h,       w,       out_c,  out_h, out_w,      kernel, kernel,
          stride, stride, padding, padding, weight, bias,  activation, value,  8.0f};
}

// conv k5, max pool, tanh, padded conv of stride 2, dropout, gelu, flatten, linear.
inline std::vector<TrainOp> program() {
  return {op(OpKind::conv2d, 2, 11, 11, 5, 7, 7, 5, 1, 0, 0, 250),
          op(OpKind::max_pool2d, 5, 7, 7, 5, 3, 3, 2, 2, 0),
          op(OpKind::activation, 5, 3, 3, 5, 3, 3, 1, 1, 0, 0, -1, ActivationKind::tanh),
          op(OpKind::conv2d, 5, 3, 3, 6, 2, 2, 3, 2, 1, 255, 525),
          op(OpKind::dropout, 6, 2, 2, 6, 2, 2, 1, 1, 0, 0, -1, ActivationKind::identity, 0.25f),
          op(OpKind::activation, 6, 2, 2, 6, 2, 2, 1, 1, 0, 0, -1, ActivationKind::gelu),
          op(OpKind::flatten, 6, 2, 2, 24, 1, 1, 1, 1, 0),
          op(OpKind::linear, 24, 1, 1, 3, 1, 1, 1, 1, 0, 531, 603)};
}

// What the first one leaves out: an activation of the image, a border around a plain convolution without bias, pools
// that overlap or have a border, means of windows and of planes, dropout of values that a gradient needs.
inline std::vector<TrainOp> averaging_program() {
  TrainOp mean_of_planes = op(OpKind::global_avg_pool2d, 4, 2, 3, 4, 1, 1, 2, 2, 0);
  mean_of_planes.kernel_width = mean_of_planes.stride_width = 3;
  TrainOp wide = op(OpKind::conv2d, 3, 4, 4, 4, 2, 3, 3, 1, 0, 60, 168);
  wide.kernel_width = 2;
  return {op(OpKind::activation, 2, 11, 11, 2, 11, 11, 1, 1, 0, 0, -1, ActivationKind::leaky_relu, 0.1f),
          op(OpKind::conv2d, 2, 11, 11, 3, 11, 11, 3, 1, 1, 0),
          op(OpKind::activation, 3, 11, 11, 3, 11, 11, 1, 1, 0, 0, -1, ActivationKind::silu),
          op(OpKind::max_pool2d, 3, 11, 11, 3, 6, 6, 3, 2, 1),
          op(OpKind::avg_pool2d, 3, 6, 6, 3, 5, 5, 2, 1, 0),
          op(OpKind::avg_pool2d, 3, 5, 5, 3, 4, 4, 2, 1, 0),
          op(OpKind::activation, 3, 4, 4, 3, 4, 4, 1, 1, 0, 0, -1, ActivationKind::sigmoid),
          op(OpKind::dropout, 3, 4, 4, 3, 4, 4, 1, 1, 0, 0, -1, ActivationKind::identity, 0.1f),
          wide,
          op(OpKind::activation, 4, 2, 3, 4, 2, 3, 1, 1, 0, 0, -1, ActivationKind::relu),
          mean_of_planes,
          op(OpKind::flatten, 4, 1, 1, 4, 1, 1, 1, 1, 0),
          op(OpKind::linear, 4, 1, 1, 17, 1, 1, 1, 1, 0, 180, 250),
          op(OpKind::activation, 17, 1, 1, 17, 1, 1, 1, 1, 0, 0, -1, ActivationKind::identity),
          op(OpKind::linear, 17, 1, 1, 3, 1, 1, 1, 1, 0, 270, 325)};
}
constexpr int64_t kParameters = 606, kImages = 9, kSamples = 11, kPixels = 2 * 11 * 11;

inline uint32_t scramble(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}
inline float number(int64_t model, int64_t i) {
  return static_cast<float>(scramble(static_cast<uint32_t>(model * 7919 + i)) % 2001) / 1000.0f - 1.0f;
}

// A population whose row r is model `first + r` of an endless list.
struct Population {
  int64_t n;
  std::vector<float> weights, moment1, moment2, log_sigma2, sigma1, sigma2;
  std::vector<uint8_t> images, masks;
  std::vector<int64_t> labels, seeds, correct;
  std::vector<int32_t> order;
  std::vector<double> hyper, factors, loss;
  float scale[2] = {1 / 64.0f, 1 / 80.0f}, shift[2] = {-2.0f, -1.5f};

  Population(int64_t first, int64_t n) : n(n) {
    const size_t size = static_cast<size_t>(n * kParameters);
    for (auto* matrix : {&moment1, &moment2, &sigma1, &sigma2}) matrix->assign(size, 0.0f);
    log_sigma2.assign(size, -5.0f);
    masks.assign(static_cast<size_t>(n * ((kParameters + 7) / 8)), 0xdf);
    for (int64_t m = first; m < first + n; ++m) {
      for (int64_t i = 0; i < kParameters; ++i) weights.push_back(0.3f * number(m, i));
      for (int64_t t = 0; t < kSamples; ++t)
        order.push_back(static_cast<int32_t>(scramble(static_cast<uint32_t>(m * 131 + t)) % kImages));
      for (double value : {0.01, 0.001, 0.9, 0.99, 1e-8, 0.0}) hyper.push_back(value);
      seeds.push_back(m);
    }
    for (int64_t i = 0; i < kImages * kPixels; ++i)
      images.push_back(static_cast<uint8_t>(scramble(static_cast<uint32_t>(i))));
    for (int64_t i = 0; i < kImages; ++i) labels.push_back(i % 3);
    factors.assign(3, 1.0);
    loss.assign(static_cast<size_t>(n), 0.0);
    correct.assign(static_cast<size_t>(n), 0);
  }

  TrainParams params(bool variational) {
    TrainParams p{};
    p.models = n, p.parameters = kParameters, p.samples = kSamples, p.batch_size = 4;
    p.images = kImages, p.image_elements = kPixels;
    p.weights = weights.data(), p.moment1 = moment1.data(), p.moment2 = moment2.data();
    if (variational)
      p.log_sigma2 = log_sigma2.data(), p.sigma_moment1 = sigma1.data(), p.sigma_moment2 = sigma2.data();
    else
      p.masks = masks.data();
    p.images_u8 = images.data(), p.channel_scale = scale, p.channel_shift = shift, p.labels = labels.data();
    p.order = order.data(), p.order_stride = kSamples;
    p.optimizer = OptimizerKind::adam, p.hyper = hyper.data(), p.lr_factor = factors.data();
    p.seeds = seeds.data(), p.seed = 5, p.kl_weight = 0.01f, p.variational_bias = true;
    p.crop = 2, p.flip = true, p.loss = variational ? LossKind::cross_entropy : LossKind::squared_error;
    p.loss_sum = loss.data(), p.correct = correct.data();
    return p;
  }
};

inline double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::fmax(largest, std::fabs(double(a[i]) - double(b[i])));
  return largest;
}

}  // namespace zoosparse::test
