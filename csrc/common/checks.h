// Named checks of what operators are given. They raise a ValueError, of which the public Python functions make an
// InputError, and keep a direct call of torch.ops.zoosparse.* from reading or writing out of bounds.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <stdexcept>

namespace zoosparse {

inline void check_matrix(const at::Tensor& tensor, const char* op, const char* name) {
  TORCH_CHECK_VALUE(tensor.dim() == 2, op, ": ", name, " must have two dimensions, got shape ", tensor.sizes());
}

inline void check_dtype(const at::Tensor& tensor, at::ScalarType expected, const char* op, const char* name) {
  TORCH_CHECK_VALUE(tensor.scalar_type() == expected, op, ": ", name, " must be ", expected, ", got ",
                    tensor.scalar_type());
}

inline void check_shape(const at::Tensor& tensor, at::IntArrayRef expected, const char* op, const char* name) {
  TORCH_CHECK_VALUE(tensor.sizes() == expected, op, ": ", name, " must have shape ", expected, ", got ",
                    tensor.sizes());
}

// Runs `body`; what code without torch refuses becomes an error of the operator.
template <class Body>
auto refusing(const char* op, const Body& body) {
  try {
    return body();
  } catch (const std::logic_error& error) {
    TORCH_CHECK_VALUE(false, op, ": ", error.what());
  }
}

}  // namespace zoosparse
