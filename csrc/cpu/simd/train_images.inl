// The images of a sample, one in each lane: moved at random where that is asked for, normalised, lanes innermost.
#pragma once

#include <bit>

#include "cpu/simd/train_forward.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// Where the pixels of each lane come from: (row + down, column + right), counting columns from the right where
// flipped (-1).
template <int W>
struct Move {
  Ints<W> down, right, flipped;
};

// Words 0 to 2 of the sample's stream are down, right and, in the top bit, flipped.
template <int W>
Move<W> random_move(const Group<W>& group, SampleAt sample) {
  const int32_t crop = group.params.crop;
  const Words<W> places = Words<W>{} + static_cast<uint32_t>(2 * crop + 1);
  Words<W> x[4];
  random_stream(group, kAugmentStream, 0, sample).words(0, x);
  const Ints<W> flipped = bits_as<Ints<W>>(x[2]) >> 31;
  return {bits_as<Ints<W>>(x[0] % places) - crop, bits_as<Ints<W>>(x[1] % places) - crop,
          group.params.flip ? flipped : Ints<W>{}};
}

// One channel [H, W] of the lanes' images, which starts at `source[lane]`.
template <int W, class T>
void interleave_moved(const TrainPlan& plan, const T* const (&source)[W], const Move<W>& move, Floats<W>* image) {
  const int height = plan.image_height, width = plan.image_plane / height;
  for (int l = 0; l < W; ++l)
    for (int y = 0; y < height; ++y) {
      const int row = y + move.down[l];
      for (int x = 0; x < width; ++x) {
        const int column = (move.flipped[l] ? width - 1 - x : x) + move.right[l];
        const bool inside = row >= 0 && row < height && column >= 0 && column < width;
        image[y * width + x][l] = inside ? static_cast<float>(source[l][row * width + column]) : 0.0f;
      }
    }
}

template <int W, class T>
void interleave(const T* const (&source)[W], int first, int last, Floats<W>* image) {
  for (int i = first; i < last; ++i) {
    Floats<W> pixel;
    for (int l = 0; l < W; ++l) pixel[l] = static_cast<float>(source[l][i]);
    image[i] = pixel;
  }
}

template <int W>
void interleave(const TrainPlan& plan, const float* const (&source)[W], Floats<W>* image) {
  interleave<W>(source, 0, plan.image_plane, image);
}

// Four bytes of a lane are gathered as one int, and taken apart for all lanes together.
template <int W>
void interleave(const TrainPlan& plan, const uint8_t* const (&source)[W], Floats<W>* image) {
  const int fours = std::endian::native == std::endian::little ? plan.image_plane / 4 * 4 : 0;
  for (int i = 0; i < fours; i += 4) {
    Ints<W> four;
    for (int l = 0; l < W; ++l) four[l] = load<int32_t>(source[l] + i);
    for (int j = 0; j < 4; ++j) image[i + j] = __builtin_convertvector((four >> 8 * j) & 0xff, Floats<W>);
  }
  interleave<W>(source, fours, plan.image_plane, image);
}

template <int W, class T>
void load_channel(const Group<W>& group, const T* images, const int64_t (&index)[W], const Move<W>* move, int channel,
                  Floats<W>* image) {
  const TrainPlan& plan = group.plan;
  const T* source[W];
  for (int l = 0; l < W; ++l)
    source[l] = images + index[l] * group.params.image_elements + static_cast<int64_t>(channel) * plan.image_plane;
  if (move != nullptr) return interleave_moved<W>(plan, source, *move, image);
  if (group.params.order_stride != 0) return interleave<W>(plan, source, image);
  for (int i = 0; i < plan.image_plane; ++i) image[i] = Floats<W>{} + static_cast<float>(source[0][i]);
}

// Images [C, H, W] of the lanes; black is the pixel 0, before normalisation.
template <int W>
void load_images(const Group<W>& group, const int64_t (&index)[W], SampleAt sample) {
  const TrainParams& params = group.params;
  const TrainPlan& plan = group.plan;
  const bool moves = params.crop > 0 || params.flip;
  Move<W> move{};
  if (moves) move = random_move<W>(group, sample);
  Floats<W>* image = group.at(plan.image);
  for (int c = 0; c < plan.image_channels; ++c, image += plan.image_plane) {
    if (params.images_u8 != nullptr)
      load_channel<W>(group, params.images_u8, index, moves ? &move : nullptr, c, image);
    else
      load_channel<W>(group, params.images_f32, index, moves ? &move : nullptr, c, image);
    for (int i = 0; i < plan.image_plane; ++i) image[i] = image[i] * params.channel_scale[c] + params.channel_shift[c];
  }
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
