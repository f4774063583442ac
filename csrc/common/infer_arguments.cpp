#include "common/infer_arguments.h"

#include "common/checks.h"
#include "common/pixels.h"
#include "common/program_arguments.h"

namespace zoosparse {
namespace {

constexpr int64_t kMostClasses = 65536;  // predictions are uint16

// The first image that is wrong is named where the labels can be looked at; a GPU is asked once.
void check_classes(const char* op, const Tensor& labels, int64_t classes) {
  if (labels.numel() == 0) return;
  const auto [low, high] = extremes<int64_t>(labels);
  if (low >= 0 && high < classes) return;
  if (!is_here(place_of(labels)))
    refuse(op, ": labels from ", low, " to ", high, " lie outside the ", classes, " classes");
  const int64_t* label = read<int64_t>(labels);
  int64_t image = 0;
  while (label[image] >= 0 && label[image] < classes) ++image;
  refuse(op, ": label ", label[image], " of image ", image, " lies outside the ", classes, " classes");
}

}  // namespace

InferArguments::InferArguments(const char* op, const InferTensors& tensors, int64_t classes, int64_t mode, int lanes)
    : op_(op) {
  check_matrix(tensors.weights, op, "weights");
  check_type(tensors.weights, ScalarType::Float, op, "weights");
  check_place(tensors.images, place_of(tensors.weights), op, "images");
  if (tensors.images.dim() != 4)
    refuse(op, ": images must be [M, C, H, W], got shape ", text_of(tensors.images.sizes()));
  if (!is_of(tensors.images, ScalarType::Byte)) check_type(tensors.images, ScalarType::Float, op, "images");
  check(mode >= 0 && mode <= static_cast<int64_t>(InferMode::sparse), op,
        ": mode must be 0 (auto), 1 (dense) or 2 (sparse), got ", mode);
  mode_ = static_cast<InferMode>(mode);
  weights_ = contiguous(tensors.weights);
  images_ = contiguous(tensors.images);
  const Tensor no_clamp = empty({0}, ScalarType::Double, here());
  operations_ = decode_program(op, tensors.program, tensors.values, no_clamp, images_.sizes(), parameters());
  scale_and_shift_ = zoosparse::scale_and_shift(op, images_, tensors.mean, tensors.std);
  planner_ = refusing(op, [&] { return std::make_unique<InferPlanner>(operations_, lanes); });
  check(plan().classes == classes, op, ": the program gives ", plan().classes, " scores, classes is ", classes);
}

Tensor InferArguments::check_labels(const Tensor& labels) const {
  check_place(labels, place(), op_, "labels");
  check_type(labels, ScalarType::Long, op_, "labels");
  check_shape(labels, {images()}, op_, "labels");
  check(classes() <= kMostClasses, op_, ": at most ", kMostClasses, " classes, got ", classes());
  const Tensor rows = contiguous(labels);
  check_classes(op_, rows, classes());
  return rows;
}

InferResults::InferResults(const InferArguments& arguments)
    : predictions(empty({arguments.models(), arguments.images()},
                        arguments.classes() <= 256 ? ScalarType::Byte : ScalarType::UInt16, arguments.place())),
      loss(zeros({arguments.models()}, ScalarType::Double, arguments.place())),
      correct(zeros({arguments.models()}, ScalarType::Long, arguments.place())) {}

Tensor empty_scores(const InferArguments& arguments) {
  return empty({arguments.models(), arguments.images(), arguments.classes()}, ScalarType::Float, arguments.place());
}

}  // namespace zoosparse
