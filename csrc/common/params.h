// Plain launch structs: what an engine is given, without tensors. Shared by every instruction set and device.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace zoosparse {

enum class OpKind : int32_t { conv2d, linear, max_pool2d, avg_pool2d, activation, dropout, flatten, global_avg_pool2d };
enum class ActivationKind : int32_t { identity, relu, leaky_relu, tanh, sigmoid, silu, gelu };

// Of one sample: -log softmax of the label, or the mean square distance of the scores to the label's one-hot vector.
enum class LossKind : int32_t { cross_entropy, squared_error };

enum class OptimizerKind : int32_t { sgd, adam, adamw, rmsprop };

// Columns of the table of hyperparameters, one row per model.
enum HyperColumn { kLr, kWeightDecay, kBeta1, kBeta2, kEps, kNesterov, kHyperColumns };

// One operation of a program; sizes in elements. A flat vector of F features is [F, 1, 1].
struct TrainOp {
  OpKind kind;
  int32_t in_channels, in_height, in_width;
  int32_t out_channels, out_height, out_width;
  int32_t kernel_height, kernel_width, stride_height, stride_width, padding_height, padding_width;
  int64_t weight, bias;  // first columns; bias = -1: none
  ActivationKind activation;
  float value;                                      // negative slope of a leaky ReLU, or rate of a dropout
  float clamp;                                      // bound of log alpha, in variational dropout
  bool weight_frozen = false, bias_frozen = false;  // no step changes them
};

// Whether an activation's derivative follows from its value; else it is saved on the way forward. A leaky ReLU of a
// negative slope has positive values on both sides.
ZOOSPARSE_HOST_DEVICE constexpr bool derivative_from_output(const TrainOp& op) {
  return op.activation != ActivationKind::silu && op.activation != ActivationKind::gelu &&
         !(op.activation == ActivationKind::leaky_relu && op.value < 0);
}

// Batches of `size` samples, the last of which may be shorter; no sum can overflow.
constexpr int64_t batches(int64_t samples, int64_t size) { return samples / size + (samples % size != 0); }

// Many training steps of many models. Pointers that a mode does not use are null.
struct TrainParams {
  int64_t models, parameters, samples, batch_size, images, image_elements;

  float* weights;        // [N, P]
  float* moment1;        // [N, P]: momentum buffer, or Adam's first moment
  float* moment2;        // [N, P]: Adam's second moment, or RMSprop's square average
  float* log_sigma2;     // [N, P]
  float* sigma_moment1;  // [N, P]
  float* sigma_moment2;  // [N, P]
  const uint8_t* masks;  // [N, ceil(P / 8)] bits, 1 = kept

  const uint8_t* images_u8;    // [M, C, H, W], or
  const float* images_f32;     // [M, C, H, W]
  const float* channel_scale;  // [C]: pixel * scale + shift is what the network sees
  const float* channel_shift;  // [C]
  const int64_t* labels;       // [M]
  const int32_t* order;        // [N, samples], or [samples] for all models
  int64_t order_stride;        // samples, or 0

  int32_t crop;  // images move by up to so many pixels up or down, left or right; black comes in
  bool flip;     // and are mirrored left to right, or not

  LossKind loss;
  OptimizerKind optimizer;
  const double* hyper;      // [N, kHyperColumns]
  const double* lr_factor;  // [steps]
  const float* dropout;     // [N] rates that replace those of the program

  const int64_t* seeds;  // [N]
  int64_t seed, first_step;
  float kl_weight;
  bool variational_bias;  // the biases of convolutions are variational too

  double* loss_sum;  // [N]
  int64_t* correct;  // [N]
};

}  // namespace zoosparse
