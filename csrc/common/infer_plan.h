// A program laid out for inference on one block of images, one image per lane: stages, tables of offsets, and where
// every tensor of activations lies in a thread's memory. Places and sizes count vectors of W floats unless they say
// bytes.
#pragma once

#include <cstdint>

#include "common/host_device.h"
#include "common/params.h"

namespace zoosparse {

enum class InferMode : int32_t { automatic, dense, sparse };  // per layer: what pays, or always one

// A tensor of activations [C, H, W], stored as the layer that reads it wants it: with its border of zeros, and the
// columns of a row sorted by x % stride, so that neighbouring outputs read neighbouring vectors whatever the stride.
struct InferLayout {
  int32_t channels, height, width;  // without the border
  int32_t border_y, border_x;
  int32_t stride_x, phase;  // columns of one residue; row = stride_x * phase
  int32_t row, plane;
  int64_t place;
};

ZOOSPARSE_HOST_DEVICE static inline int32_t column_of(const InferLayout& layout, int32_t x) {
  const int32_t padded = x + layout.border_x;
  return padded % layout.stride_x * layout.phase + padded / layout.stride_x;
}
ZOOSPARSE_HOST_DEVICE static inline int64_t row_of(const InferLayout& layout, int32_t channel, int32_t y) {
  return layout.place + static_cast<int64_t>(channel) * layout.plane +
         static_cast<int64_t>(y + layout.border_y) * layout.row;
}

enum class InferKind : int32_t { convolution, max_pool, average_pool, copy };

// Every stage ends in an activation; a linear layer is the convolution of a 1 x 1 plane.
struct InferStage {
  InferKind kind;
  TrainOp op;  // sizes of the convolution or pool
  InferLayout in, out;
  const int32_t* out_column;  // [out.width]
  ActivationKind activation;
  float slope;  // of a leaky ReLU

  // Convolution. The 2 x 2 max pool that follows is taken inside the registers.
  int32_t taps;               // in * kernel height * kernel width
  const int32_t* tap_offset;  // [taps], bytes
  int64_t row_step;           // bytes between the inputs of neighbouring output rows
  int32_t pool;               // 1: none, 2: of 2 x 2
  int32_t first_channel;      // among the output channels of all convolutions: place in InferModel::starts
  int32_t number;             // among the convolutions: place in InferModel::sparse
};

struct InferPlan {
  const InferStage* stages;
  int32_t count;
  int32_t convolutions, channels;  // of all convolutions
  int32_t classes;
  InferLayout image;
  int64_t scores;   // [classes]
  int64_t scratch;  // one row of outputs of all channels, before the activation
  int64_t vectors;  // size of a thread's memory; all zero at first, borders stay so
};

// One weight that is not zero: the input it multiplies, relative to the first one of an output, and its value.
struct SparseTap {
  int32_t offset;  // bytes
  float value;
};

// What the kernels read of one model.
struct InferModel {
  const float* weights;   // [P]
  const SparseTap* taps;  // of all sparse layers, channel by channel
  const int32_t* starts;  // [channels + 1] into taps
  const uint8_t* sparse;  // [convolutions]
  bool finite;            // no activation can be infinite or NaN
};

struct InferImages {
  const uint8_t* u8;   // [M, C, H, W], or
  const float* f32;    // [M, C, H, W]
  const float* scale;  // [C]: pixel * scale + shift is what the network sees
  const float* shift;  // [C]
};

// What one model makes of one block of images.
struct InferVerdict {
  double loss;      // summed over the block
  int64_t correct;  // of the block
};

}  // namespace zoosparse
