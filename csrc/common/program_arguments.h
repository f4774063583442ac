// A program's table, tensors in: what program_table.h refuses becomes an error of the operator.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "common/params.h"

namespace zoosparse {

// `caller` is the operator that errors name; program int64 [L, 18], values float64 [L], clamp float64 [L] or empty;
// images are [C, H, W], weights have p columns.
std::vector<TrainOp> decode_program(const char* caller, const at::Tensor& program, const at::Tensor& values,
                                    const at::Tensor& clamp, at::IntArrayRef image_shape, int64_t p);

}  // namespace zoosparse
