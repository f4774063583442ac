#include "common/tensor.h"

#include <torch/csrc/stable/c/shim.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>

namespace zoosparse {

namespace stable = torch::stable;

int32_t number_of(ScalarType type) { return stable::detail::to<int32_t>(stable::detail::from(type)); }

std::string name_of_type(const Tensor& tensor) {
  constexpr ScalarType known[] = {
      ScalarType::Byte,     ScalarType::Char,        ScalarType::Short,        ScalarType::Int,
      ScalarType::Long,     ScalarType::Half,        ScalarType::Float,        ScalarType::Double,
      ScalarType::Bool,     ScalarType::ComplexHalf, ScalarType::ComplexFloat, ScalarType::ComplexDouble,
      ScalarType::BFloat16, ScalarType::UInt16,      ScalarType::UInt32,       ScalarType::UInt64,
  };
  for (const ScalarType type : known)
    if (is_of(tensor, type)) return torch::headeronly::toString(type);
  return "a type of " + std::to_string(tensor.element_size()) + " bytes";
}

std::string name_of(const Place& place) {
  if (is_here(place)) return "cpu";
  const std::string type = place.type == aoti_torch_device_type_cuda()   ? "cuda"
                           : place.type == aoti_torch_device_type_meta() ? "meta"
                                                                         : "device " + std::to_string(place.type);
  return place.index < 0 ? type : type + ":" + std::to_string(place.index);
}

std::string text_of(Ints numbers) {
  std::string text = "[";
  for (size_t i = 0; i < numbers.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(numbers[i]);
  return text + "]";
}

Tensor empty_of_type(Ints sizes, int32_t type, const Place& place) {
  std::array<int64_t, 8> strides;
  STD_TORCH_CHECK(sizes.size() <= strides.size(), "at most 8 dimensions");
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(1, sizes[i]);
  }
  AtenTensorHandle handle;
  ZOOSPARSE_SHIM(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(), type,
                                          place.type, place.index, &handle));
  return Tensor(handle);
}

Tensor empty(Ints sizes, ScalarType type, const Place& place) { return empty_of_type(sizes, number_of(type), place); }

Tensor zeros(Ints sizes, ScalarType type, const Place& place) {
  Tensor tensor = empty(sizes, type, place);
  ZOOSPARSE_SHIM(aoti_torch_zero_(tensor.get()));
  return tensor;
}

Tensor contiguous(const Tensor& tensor) { return tensor.is_contiguous() ? tensor : stable::contiguous(tensor); }

Tensor move_to(const Tensor& tensor, const Place& place) {
  if (place_of(tensor) == place) return tensor;
  const Tensor moved = empty_of_type(tensor.sizes(), type_of(tensor), place);
  copy(tensor, moved);
  return moved;
}

Tensor as_doubles_here(const Tensor& tensor) {
  if (is_of(tensor, ScalarType::Double) && is_here(place_of(tensor))) return zoosparse::contiguous(tensor);
  const Tensor doubles = empty(tensor.sizes(), ScalarType::Double, here());
  copy(tensor, doubles);
  return doubles;
}

namespace {

// aten::aminmax, then a copy of each to the CPU: what waits for the device.
std::array<Tensor, 2> extremes_there(const Tensor& tensor) {
  std::array<StableIValue, 3> stack{stable::detail::from(tensor), stable::detail::from(std::optional<int64_t>()),
                                    stable::detail::from(false)};
  ZOOSPARSE_SHIM(torch_call_dispatcher("aten::aminmax", "", stack.data(), TORCH_ABI_VERSION));
  return {move_to(stable::detail::to<Tensor>(stack[0]), here()), move_to(stable::detail::to<Tensor>(stack[1]), here())};
}

}  // namespace

template <class T>
Extremes<T> extremes(const Tensor& tensor) {
  if (!is_here(place_of(tensor))) {
    const auto [low, high] = extremes_there(tensor);
    return {*read<T>(low), *read<T>(high)};
  }
  const Tensor rows = zoosparse::contiguous(tensor);
  const T* numbers = read<T>(rows);
  Extremes<T> found{numbers[0], numbers[0]};
  for (int64_t i = 0, n = rows.numel(); i < n; ++i) {
    const T number = numbers[i];
    if (number != number) return {number, number};
    found.low = std::min(found.low, number);
    found.high = std::max(found.high, number);
  }
  return found;
}

template Extremes<float> extremes(const Tensor&);
template Extremes<int32_t> extremes(const Tensor&);
template Extremes<int64_t> extremes(const Tensor&);

}  // namespace zoosparse
