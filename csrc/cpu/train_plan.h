// A program laid out for one group of lanes: stages, tables of offsets, and where everything lies in memory. A group's
// models and their state are shared by the threads that work on it; each thread has activations and gradients of its
// own.
#pragma once

#include <cstdint>

#include "common/params.h"

namespace zoosparse {

// Places count vectors of W floats from the start of the thread's own memory.
struct TrainStage {
  TrainOp op;
  int32_t index;  // in the program: the number of its random stream

  // Convolution and linear. A max pool that follows is done in the same stage, block by block, where its windows do
  // not overlap; rows x columns are the outputs that the pool looks at.
  int32_t taps;                     // in * kernel height * kernel width
  int32_t rows, columns;            // outputs that are computed
  int32_t pool_height, pool_width;  // 1 x 1: no pool
  int32_t block_rows;               // rows done at a time, a multiple of pool_height
  const int32_t* tap_offset;        // [taps], bytes
  const int32_t* position_offset;   // [rows * columns], bytes
  bool pooled, padded;
  bool needs_input_gradient;

  int32_t in_elements, out_elements, padded_elements;
  int64_t input, output;
  int64_t padded_input;  // the input with its border of zeros; `input` where there is none
  int64_t squared;       // padded_input^2, in variational dropout
  int64_t saved;         // which input a pool took, a dropout's factors, a derivative
  int64_t deviation;     // in variational dropout, noise / (2 standard deviation) of what reached the output
};

struct TrainPlan {
  const TrainStage* stages;
  int32_t count;
  bool variational;
  int32_t classes, image_channels, image_height, image_plane;
  int64_t image, logits;
  int64_t gradient[2];                        // with respect to activations, in turn
  int64_t padded_gradient, squared_gradient;  // with respect to padded_input and its square
  int64_t block_mean, block_variance;         // [channels, positions of a block]
  int64_t vectors;                            // size of a thread's own memory

  // From the start of the memory that threads share.
  int64_t weights, moment1, moment2;
  int64_t log_sigma2, sigma_moment1, sigma_moment2;
  int64_t variance;                              // exp(log alpha) w^2
  int64_t weight_gradients, variance_gradients;  // [pieces, P]: of each part of a batch
  int64_t part_results;                          // PartResult [pieces]
  int64_t kept;                                  // uint16 [P]: bit l = the model in lane l keeps this weight
  int64_t shared_vectors;                        // size of that memory
};

}  // namespace zoosparse
