// A program laid out for one block of threads that trains one model: stages, and where everything lies in the memory of
// a sample.
#pragma once

#include <cstdint>

#include "common/params.h"

namespace zoosparse {

// One operation, or a convolution together with the 2 x 2 max pool behind it. Places count floats from the start of a
// sample's memory.
struct BlockStage {
  TrainOp op;
  int32_t index;          // in the program: the number of its random stream
  int32_t taps;           // of a convolution: in * kernel height * kernel width
  int32_t rows, columns;  // of a convolution: outputs that are computed, or that its pool looks at
  bool pooled;
  bool needs_input_gradient;
  int32_t in_elements, out_elements;
  int32_t input, output;
  int32_t saved;      // what a pool took, one byte each; a dropout's factors; a derivative
  int32_t deviation;  // noise / (2 standard deviation) of what reached the output, in variational dropout
};

struct BlockPlan {
  const BlockStage* stages;
  int32_t count;
  bool variational;
  int32_t classes, image_channels, image_height, image_width;
  int32_t image, logits;
  int32_t gradient[2];  // with respect to activations, in turn
  int32_t verdict;      // loss of the sample, and 1 where it was right
  int32_t move;         // down, right and flipped, as ints
  int64_t sample_floats;
};

}  // namespace zoosparse
