// Tensors through torch's stable ABI: all that the wrappers of kernels need of torch, and the only headers of it that
// they see. A library built with any torch runs with every later one (TORCH_TARGET_VERSION in CMakeLists.txt).
//
// Calls by name through the dispatcher cost a microsecond or two each, those of the C shim next to nothing: what runs
// at every call of an operator is made of the latter.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace zoosparse {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// What tensors are made of: sizes, or offsets of segments.
using Ints = torch::headeronly::IntHeaderOnlyArrayRef;

inline void check_shim(AOTITorchError code, const char* call) {
  if (code != TORCH_SUCCESS) throw std::runtime_error(std::string(call) + " failed; torch says why above");
}
#define ZOOSPARSE_SHIM(call) ::zoosparse::check_shim(call, #call)

// Types and devices are compared as the numbers that torch gives them: conversions to enums refuse some.
int32_t number_of(ScalarType type);
inline int32_t type_of(const Tensor& tensor) {
  int32_t type;
  ZOOSPARSE_SHIM(aoti_torch_get_dtype(tensor.get(), &type));
  return type;
}
inline bool is_of(const Tensor& tensor, ScalarType type) { return type_of(tensor) == number_of(type); }

struct Place {
  int32_t type, index;
  bool operator==(const Place&) const = default;
};
inline Place place_of(const Tensor& tensor) {
  Place place;
  ZOOSPARSE_SHIM(aoti_torch_get_device_type(tensor.get(), &place.type));
  ZOOSPARSE_SHIM(aoti_torch_get_device_index(tensor.get(), &place.index));
  return place;
}
inline bool is_here(const Place& place) { return place.type == aoti_torch_device_type_cpu(); }
inline Place here() { return {aoti_torch_device_type_cpu(), 0}; }

// As Python writes them: Float, cuda:0, [2, 3].
std::string name_of_type(const Tensor& tensor);
std::string name_of(const Place& place);
std::string text_of(Ints numbers);

// A tensor whose numbers are whatever was there, and one of zeros.
Tensor empty(Ints sizes, ScalarType type, const Place& place);
Tensor zeros(Ints sizes, ScalarType type, const Place& place);
Tensor empty_of_type(Ints sizes, int32_t type, const Place& place);

// The tensor itself where it is so already.
Tensor contiguous(const Tensor& tensor);
Tensor move_to(const Tensor& tensor, const Place& place);
Tensor as_doubles_here(const Tensor& tensor);  // contiguous, on the CPU

inline void copy(const Tensor& from, const Tensor& to) { ZOOSPARSE_SHIM(aoti_torch_copy_(to.get(), from.get(), 0)); }

// Pointers of contiguous tensors whose type was checked.
template <class T>
const T* read(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <class T>
T* write(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// The least and the greatest number of an int32 or int64 or float32 tensor that has any; NaN if one of them is.
template <class T>
struct Extremes {
  T low, high;
};
template <class T>
Extremes<T> extremes(const Tensor& tensor);

}  // namespace zoosparse
