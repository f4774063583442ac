// What a network sees of images: pixel * scale + shift, channel by channel.
#pragma once

#include "common/tensor.h"

namespace zoosparse {

// (pixel / 255 - mean) / std for bytes, (pixel - mean) / std for floats, as float32 [2 C] on the CPU: the scales of the
// channels of `images` [M, C, H, W], then their shifts. Checks mean and std, both [C] of any type on any device.
Tensor scale_and_shift(const char* op, const Tensor& images, const Tensor& mean, const Tensor& std);

}  // namespace zoosparse
