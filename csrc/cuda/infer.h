// Launchers of inference. Nothing is launched where there are no models or no images; the caller looks for launch
// errors.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/infer_plan.h"
#include "cuda/infer_lane.h"

namespace zoosparse::cuda {

// Some models on some images. All memory is the device's, the plan's tables too.
struct InferRun {
  InferPlan plan;  // for kTileImages lanes
  InferMode mode;
  int64_t models, parameters;
  const float* weights;  // [models, parameters]

  InferImages pixels;  // [images, C, H, W]
  int64_t images;
  int64_t all_images, first_image;  // the results' columns, and where those of these images begin
  const int64_t* labels;            // [images]; not read for scores

  float* tiles;      // [tiles, vectors of an image, kTileImages], 0 at first: borders stay so
  SparseTap* taps;   // [models, parameters]; not used if dense
  int32_t* counts;   // [models, channels]; not used if dense
  int32_t* sparse;   // [models, convolutions]
  float* hidden;     // [blocks, floats of InferGrid], or null: in shared memory
  double* losses;    // [tiles, models]
  int32_t* correct;  // [tiles, models]

  uint8_t* predictions_u8;    // [models, all_images], or
  uint16_t* predictions_u16;  // [models, all_images], or
  float* scores;              // [models, all_images, classes]

  ZOOSPARSE_HOST_DEVICE int64_t tiles_count() const { return (images + kTileImages - 1) / kTileImages; }
};

// How many blocks the current device runs side by side, each on one model and one tile of images at a time.
struct InferGrid {
  int64_t blocks;
  int64_t floats;  // of activations a block keeps
  bool in_shared;  // whether they fit its shared memory
};
InferGrid infer_grid(const InferPlan& plan);

// Pixels to tiles.
void launch_infer_tiles(const InferRun& run, cudaStream_t stream);
// Lists of the weights that are not zero, and which convolutions run as lists.
void launch_infer_lists(const InferRun& run, cudaStream_t stream);
// Predictions with losses and right answers of every tile, or scores.
void launch_infer(const InferRun& run, const InferGrid& grid, cudaStream_t stream);
// Adds up the tiles: loss [models], correct [models].
void launch_infer_sums(const InferRun& run, double* loss, int64_t* correct, cudaStream_t stream);

}  // namespace zoosparse::cuda
