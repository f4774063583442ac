#include "common/pixels.h"

#include "common/checks.h"

namespace zoosparse {

Tensor scale_and_shift(const char* op, const Tensor& images, const Tensor& mean, const Tensor& std) {
  const int64_t channels = images.size(1);
  check_shape(mean, {channels}, op, "mean");
  check_shape(std, {channels}, op, "std");
  const Tensor means = as_doubles_here(mean), stds = as_doubles_here(std);
  const double unit = is_of(images, ScalarType::Byte) ? 255.0 : 1.0;
  const Tensor numbers = empty({2 * channels}, ScalarType::Float, here());
  float *const scale = write<float>(numbers), *const shift = scale + channels;
  for (int64_t c = 0; c < channels; ++c) {
    const double deviation = read<double>(stds)[c];
    scale[c] = static_cast<float>(1.0 / (unit * deviation));
    shift[c] = static_cast<float>(-read<double>(means)[c] / deviation);
  }
  return numbers;
}

}  // namespace zoosparse
