// Named checks of what operators are given. They throw std::invalid_argument, which Python sees as a ValueError, of
// which the public functions make an InputError, and keep a direct call of torch.ops.zoosparse.* from reading or
// writing out of bounds.
#pragma once

#include <sstream>
#include <stdexcept>

#include "common/tensor.h"

namespace zoosparse {

// Parts that cost something to make belong behind an `if`, so that they are made only for an error.
template <class... Parts>
[[noreturn, gnu::noinline, gnu::cold]] void refuse(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

template <class... Parts>
void check(bool holds, const Parts&... parts) {
  if (!holds) refuse(parts...);
}

inline void check_matrix(const Tensor& tensor, const char* op, const char* name) {
  if (tensor.dim() != 2) refuse(op, ": ", name, " must have two dimensions, got shape ", text_of(tensor.sizes()));
}

inline void check_type(const Tensor& tensor, ScalarType expected, const char* op, const char* name) {
  if (!is_of(tensor, expected))
    refuse(op, ": ", name, " must be ", torch::headeronly::toString(expected), ", got ", name_of_type(tensor));
}

inline void check_shape(const Tensor& tensor, Ints expected, const char* op, const char* name) {
  if (tensor.sizes() != expected)
    refuse(op, ": ", name, " must have shape ", text_of(expected), ", got ", text_of(tensor.sizes()));
}

inline void check_contiguous(const Tensor& tensor, const char* op, const char* name) {
  check(tensor.is_contiguous(), op, ": ", name, " must be contiguous");
}

inline void check_place(const Tensor& tensor, const Place& expected, const char* op, const char* name) {
  const Place place = place_of(tensor);
  if (place != expected) refuse(op, ": ", name, " is on ", name_of(place), ", expected ", name_of(expected));
}

// Runs `body`; what code without torch refuses becomes an error of the operator.
template <class Body>
auto refusing(const char* op, const Body& body) {
  try {
    return body();
  } catch (const std::logic_error& error) {
    throw std::invalid_argument(std::string(op) + ": " + error.what());
  }
}

}  // namespace zoosparse
