// Inference of one model on one block of images, one image per lane: see infer.inl.
#pragma once

#include "common/infer_plan.h"
#include "cpu/simd/level.h"

namespace zoosparse {

// `memory`: plan.vectors x lanes floats, 64-byte aligned, all zero before its first use.
struct InferKernels {
  int lanes;
  // Images [first, first + count), count <= lanes, normalised, to where the first layer reads them; other lanes: zeros.
  void (*load_images)(const InferPlan& plan, const InferImages& images, int64_t first, int count, float* memory);
  // From the images to plan.scores; the results of stages before `first_stage` are there already.
  void (*forward)(const InferPlan& plan, const InferModel& model, int32_t first_stage, float* memory);
  // Cross-entropy and predictions of the first `count` lanes.
  InferVerdict (*judge)(const InferPlan& plan, const int64_t* labels, int count, const float* memory,
                        int32_t* predictions);
};

}  // namespace zoosparse

ZOOSPARSE_KERNELS(InferKernels, infer_kernels)
