// Inference of many models on the GPU: 32 images in the lanes of a warp, one model and one tile of 32 images in a
// block. A block takes its models one after the other for the same tile, so that the images stay in its cache, and
// keeps the activations of a model in shared memory where they fit: 168 KB for CNN-s. What a lane does is in
// infer_lane.h.
#include "cuda/infer.h"

#include <algorithm>

#include "cuda/collective.cuh"

namespace zoosparse::cuda {
namespace {

constexpr int kWarps = 16, kThreads = kWarps * kWarpSize;
constexpr int kSmallThreads = 256;  // of the kernels around it
constexpr int64_t kMostBlocks = 1 << 20;
constexpr int64_t kMostHiddenBytes = int64_t{1} << 30;  // of all blocks, outside shared memory
static_assert(kTileImages == kWarpSize);

__device__ int warp_of_thread() { return static_cast<int>(threadIdx.x) / kWarpSize; }

__host__ __device__ int64_t vectors_of_image(const InferPlan& plan) {
  return static_cast<int64_t>(plan.image.channels) * plan.image.plane;
}

unsigned blocks_for(int64_t tasks) { return static_cast<unsigned>(std::min(kMostBlocks, tasks)); }

// ---- Images: a warp per pixel of a tile ---------------------------------------------------------------------------

__global__ void __launch_bounds__(kSmallThreads) load_tiles(InferRun run) {
  constexpr int warps = kSmallThreads / kWarpSize;
  const InferLayout& layout = run.plan.image;
  const int64_t pixels = static_cast<int64_t>(layout.channels) * layout.height * layout.width;
  const int64_t tasks = run.tiles_count() * pixels, step = int64_t{gridDim.x} * warps;
  for (int64_t task = int64_t{blockIdx.x} * warps + warp_of_thread(); task < tasks; task += step) {
    const int64_t tile = task / pixels, pixel = task % pixels, image = tile * kTileImages + lane_of_thread();
    float* const to = run.tiles + tile * vectors_of_image(run.plan) * kTileImages + lane_of_thread();
    to[place_of_pixel(layout, pixel) * kTileImages] =
        image < run.images ? pixel_of_image(layout, run.pixels, image, pixel) : 0.0f;
  }
}

// ---- Lists: a block per convolution of a model, a warp per output channel -----------------------------------------

// The weights that are not zero, in their order; their number.
__device__ int32_t list_channel(const float* weights, const InferStage& stage, SparseTap* taps) {
  const int lane = lane_of_thread();
  int32_t count = 0;
  for (int32_t first = 0; first < stage.taps; first += kWarpSize) {
    const int32_t k = first + lane;
    const float weight = k < stage.taps ? weights[k] : 0.0f;
    const unsigned kept = __ballot_sync(kAllLanes, weight != 0.0f);
    if (weight != 0.0f) taps[count + __popc(kept & ((1u << lane) - 1))] = {stage.tap_offset[k], weight};
    count += __popc(kept);
  }
  return count;
}

__global__ void __launch_bounds__(kSmallThreads) make_lists(InferRun run) {
  __shared__ unsigned long long kept;
  const InferPlan& plan = run.plan;
  for (int64_t task = blockIdx.x; task < run.models * plan.count; task += gridDim.x) {
    const int64_t model = task / plan.count;
    const InferStage& stage = plan.stages[task % plan.count];
    if (stage.kind != InferKind::convolution) continue;
    if (threadIdx.x == 0) kept = 0;
    __syncthreads();
    for (int32_t o = warp_of_thread(); o < stage.op.out_channels; o += kSmallThreads / kWarpSize) {
      const int64_t first = model * run.parameters + stage.op.weight + static_cast<int64_t>(o) * stage.taps;
      const int32_t count = list_channel(run.weights + first, stage, run.taps + first);
      if (lane_of_thread() == 0) {
        run.counts[model * plan.channels + stage.first_channel + o] = count;
        atomicAdd(&kept, static_cast<unsigned long long>(count));
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      const int64_t all = static_cast<int64_t>(stage.taps) * stage.op.out_channels;
      run.sparse[model * plan.convolutions + stage.number] =
          run.mode == InferMode::sparse || list_pays(static_cast<int64_t>(kept), all);
    }
  }
}

// ---- A model on a tile --------------------------------------------------------------------------------------------

// Of warp 0: predictions of the lanes, loss and right answers of the tile.
__device__ void judge_tile(const InferRun& run, const float* scores, int64_t model, int64_t tile) {
  const int64_t image = tile * kTileImages + lane_of_thread();
  const bool exists = image < run.images;
  const int64_t label = exists ? run.labels[image] : 0;
  const LaneVerdict verdict = judge_lane(scores, run.plan.classes, label);
  const int64_t result = model * run.all_images + run.first_image + image;
  if (exists && run.predictions_u8 != nullptr) run.predictions_u8[result] = static_cast<uint8_t>(verdict.predicted);
  if (exists && run.predictions_u16 != nullptr) run.predictions_u16[result] = static_cast<uint16_t>(verdict.predicted);
  double loss = exists ? verdict.loss : 0.0;
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) loss += __shfl_xor_sync(kAllLanes, loss, distance);
  const unsigned correct = __ballot_sync(kAllLanes, exists && verdict.predicted == label);
  if (lane_of_thread() == 0) {
    run.losses[tile * run.models + model] = loss;
    run.correct[tile * run.models + model] = __popc(correct);
  }
}

// Of all threads: scores [images of the tile, classes]; `scores` are those of lane 0.
__device__ void write_scores(const InferRun& run, const float* scores, int64_t model, int64_t tile) {
  const int64_t first = tile * kTileImages, rest = run.images - first, classes = run.plan.classes;
  const int64_t count = (rest < kTileImages ? rest : kTileImages) * classes;
  float* const to = run.scores + (model * run.all_images + run.first_image + first) * classes;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) to[i] = scores[i % classes * kTileImages + i / classes];
}

__device__ LaneModel model_of_run(const InferRun& run, int64_t model) {
  const int64_t weights = model * run.parameters;
  return {run.weights + weights, run.taps + weights, run.counts + model * run.plan.channels,
          run.sparse + model * run.plan.convolutions};
}

template <bool in_shared>
__global__ void __launch_bounds__(kThreads) forward(InferRun run, int64_t floats) {
  extern __shared__ float shared[];
  float* const hidden = in_shared ? shared : run.hidden + blockIdx.x * floats;
  for (int64_t i = threadIdx.x; i < floats; i += kThreads) hidden[i] = 0.0f;  // borders stay so
  __syncthreads();
  const int lane = lane_of_thread();
  const int64_t image_vectors = vectors_of_image(run.plan), tasks = run.tiles_count() * run.models;
  const int64_t last = (blockIdx.x + 1) * tasks / gridDim.x;
  for (int64_t task = blockIdx.x * tasks / gridDim.x; task < last; ++task) {
    const int64_t tile = task / run.models, model = task % run.models;
    const LaneModel weights = model_of_run(run, model);
    const LaneMemory memory{run.tiles + tile * image_vectors * kTileImages + lane, hidden + lane, image_vectors};
    for (int32_t s = 0; s < run.plan.count; ++s) {
      const InferStage stage = run.plan.stages[s];
      stage_of_lane(stage, weights, memory, {warp_of_thread(), kWarps});
      __syncthreads();
    }
    const float* const scores = scores_of_lane(run.plan, memory);
    if (run.scores != nullptr)
      write_scores(run, scores - lane, model, tile);
    else if (warp_of_thread() == 0)
      judge_tile(run, scores, model, tile);
    __syncthreads();  // the first stage of the next model may overwrite the scores
  }
}

// A thread per model; always in the order of the images.
__global__ void __launch_bounds__(kSmallThreads) add_tiles(InferRun run, double* loss, int64_t* correct) {
  const int64_t model = int64_t{blockIdx.x} * kSmallThreads + threadIdx.x;
  if (model >= run.models) return;
  double sum = loss[model];
  int64_t right = correct[model];
  for (int64_t tile = 0; tile < run.tiles_count(); ++tile) {
    sum += run.losses[tile * run.models + model];
    right += run.correct[tile * run.models + model];
  }
  loss[model] = sum;
  correct[model] = right;
}

}  // namespace

InferGrid infer_grid(const InferPlan& plan) {
  int device = 0, processors = 0, most_shared = 0, of_processor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  cudaDeviceGetAttribute(&most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  const int64_t vectors = plan.scratch - vectors_of_image(plan);  // the scratch, which comes last, is the CPU's
  InferGrid grid{0, vectors * kTileImages, vectors * kVectorBytes32 <= most_shared};
  if (grid.in_shared) {
    // Always the same, so that threads of the host do not take it from each other.
    cudaFuncSetAttribute(forward<true>, cudaFuncAttributeMaxDynamicSharedMemorySize, most_shared);
    cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_processor, forward<true>, kThreads,
                                                  static_cast<size_t>(vectors * kVectorBytes32));
    grid.blocks = int64_t{processors} * of_processor;
  } else {
    cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_processor, forward<false>, kThreads, 0);
    grid.blocks = std::min(int64_t{processors} * of_processor, kMostHiddenBytes / (vectors * kVectorBytes32));
  }
  grid.blocks = std::max<int64_t>(1, grid.blocks);
  return grid;
}

void launch_infer_tiles(const InferRun& run, cudaStream_t stream) {
  if (run.images == 0) return;
  load_tiles<<<blocks_for(run.tiles_count() * vectors_of_image(run.plan)), kSmallThreads, 0, stream>>>(run);
}

void launch_infer_lists(const InferRun& run, cudaStream_t stream) {
  if (run.models == 0) return;
  if (run.mode == InferMode::dense)
    cudaMemsetAsync(run.sparse, 0, static_cast<size_t>(run.models * run.plan.convolutions) * sizeof(int32_t), stream);
  else
    make_lists<<<blocks_for(run.models * run.plan.count), kSmallThreads, 0, stream>>>(run);
}

void launch_infer(const InferRun& run, const InferGrid& grid, cudaStream_t stream) {
  const int64_t tasks = run.tiles_count() * run.models;
  if (tasks == 0) return;
  const unsigned blocks = static_cast<unsigned>(std::min(grid.blocks, tasks));
  if (grid.in_shared)
    forward<true><<<blocks, kThreads, static_cast<size_t>(grid.floats) * sizeof(float), stream>>>(run, grid.floats);
  else
    forward<false><<<blocks, kThreads, 0, stream>>>(run, grid.floats);
}

void launch_infer_sums(const InferRun& run, double* loss, int64_t* correct, cudaStream_t stream) {
  if (run.models == 0) return;
  const unsigned blocks = static_cast<unsigned>((run.models + kSmallThreads - 1) / kSmallThreads);
  add_tiles<<<blocks, kSmallThreads, 0, stream>>>(run, loss, correct);
}

}  // namespace zoosparse::cuda
