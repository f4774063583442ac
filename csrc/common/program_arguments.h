// A program's table, tensors in: what program_table.h refuses becomes an error of the operator.
#pragma once

#include <vector>

#include "common/params.h"
#include "common/tensor.h"

namespace zoosparse {

// `caller` is the operator that errors name; program int64 [L, 18], values float64 [L], clamp float64 [L] or empty, all
// of them anywhere; images are `image_sizes` [M, C, H, W], weights have p columns.
std::vector<TrainOp> decode_program(const char* caller, const Tensor& program, const Tensor& values,
                                    const Tensor& clamp, Ints image_sizes, int64_t p);

}  // namespace zoosparse
