// Named checks of what operators are given. The public Python functions check first and explain better; these keep
// a direct call of torch.ops.zoosparse.* from reading or writing out of bounds.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

namespace zoosparse {

inline void check_matrix(const at::Tensor& tensor, const char* op, const char* name) {
  TORCH_CHECK(tensor.dim() == 2, op, ": ", name, " must have two dimensions, got shape ", tensor.sizes());
}

inline void check_dtype(const at::Tensor& tensor, at::ScalarType expected, const char* op, const char* name) {
  TORCH_CHECK(tensor.scalar_type() == expected, op, ": ", name, " must be ", expected, ", got ", tensor.scalar_type());
}

inline void check_shape(const at::Tensor& tensor, at::IntArrayRef expected, const char* op, const char* name) {
  TORCH_CHECK(tensor.sizes() == expected, op, ": ", name, " must have shape ", expected, ", got ", tensor.sizes());
}

}  // namespace zoosparse
