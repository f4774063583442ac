// Every native operator, once: bindings/library.cpp registers these names, cpu/<stem>.cpp and cuda/<stem>.cpp define
// them. Schemas are in zoosparse_ext/ops/; a struct of arguments takes those of its fields, in their order.
#pragma once

#include <tuple>

#include "common/infer_arguments.h"
#include "common/tensor.h"
#include "common/train_arguments.h"

namespace zoosparse {

// Of every model, summed over the samples: loss float64 [N], correct int64 [N].
using Sums = std::tuple<Tensor, Tensor>;
// Predictions [N, M] and the sums.
using Verdicts = std::tuple<Tensor, Tensor, Tensor>;

}  // namespace zoosparse

// OPERATOR(result, name, parameters)
//
// magnitude: k [N, S] int64, of magnitude_masks [K, N, S]; segments [S + 1] offsets
// infer: mode as InferMode
#define ZOOSPARSE_OPERATORS(OPERATOR)                                                                           \
  OPERATOR(Tensor, magnitude_threshold, (const Tensor& weights, const Tensor& k, Ints segments))                \
  OPERATOR(Tensor, magnitude_mask, (const Tensor& weights, const Tensor& k, Ints segments))                     \
  OPERATOR(Tensor, magnitude_prune_, (const Tensor& weights, const Tensor& k, Ints segments))                   \
  OPERATOR(Tensor, magnitude_masks, (const Tensor& weights, const Tensor& k, Ints segments))                    \
  OPERATOR(Tensor, pack_mask, (const Tensor& mask))                                                             \
  OPERATOR(Tensor, unpack_mask, (const Tensor& packed, int64_t p))                                              \
  OPERATOR(void, apply_mask_, (const Tensor& weights, const Tensor& mask))                                      \
  OPERATOR(Sums, train_steps_, (const TrainTensors& tensors))                                                   \
  OPERATOR(Verdicts, infer, (const InferTensors& tensors, const Tensor& labels, int64_t classes, int64_t mode)) \
  OPERATOR(Tensor, infer_scores, (const InferTensors& tensors, int64_t classes, int64_t mode))

#define ZOOSPARSE_DECLARE(result, name, parameters) result name parameters;
namespace zoosparse::cpu {
ZOOSPARSE_OPERATORS(ZOOSPARSE_DECLARE)
}
namespace zoosparse::cuda {
ZOOSPARSE_OPERATORS(ZOOSPARSE_DECLARE)
}
#undef ZOOSPARSE_DECLARE
