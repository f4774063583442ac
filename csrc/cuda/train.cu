// Training of many models on the GPU: a block stays on its model for all steps of a call, with weights and activations
// in shared memory where they fit. What a block does is in train_block_step.h.
#include "cuda/train.h"

#include <algorithm>

#include "cuda/train_block_step.h"

namespace zoosparse::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kBlockReserve = 1024;              // bytes of shared memory that the system keeps of every block's
constexpr int64_t kScratchBytes = int64_t{1} << 30;  // of all blocks, outside shared memory
constexpr int kMostAtOnce = 16;                      // samples, outside shared memory

struct DeviceTeam {
  ZOOSPARSE_HOST_DEVICE int threads() const { return kThreads; }
  ZOOSPARSE_HOST_DEVICE void barrier() const {
#if defined(__CUDA_ARCH__)
    __syncthreads();
#endif
  }
  template <class Body>
  ZOOSPARSE_HOST_DEVICE void each(int count, const Body& body) const {
#if defined(__CUDA_ARCH__)
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) body(i);
#else
    static_cast<void>(count);
    static_cast<void>(body);
#endif
  }
};

// Matrices of a model that are read all the time: weights, and in variational dropout their variances.
__host__ __device__ int64_t matrices(const BlockPlan& plan) { return plan.variational ? 2 : 1; }

template <bool in_shared>
__global__ void __launch_bounds__(kThreads, in_shared ? 2 : 1)
    train(const __grid_constant__ TrainParams params, const __grid_constant__ BlockPlan plan, int at_once,
          float* scratch, int64_t floats) {
  extern __shared__ float shared[];
  __shared__ BlockState state;
  const int64_t p = params.parameters;
  float* const gradients = scratch + blockIdx.x * floats;
  float* const variance = in_shared ? shared + p : gradients + matrices(plan) * p;
  float* const samples = variance + (plan.variational ? p : 0);
  for (int64_t model = blockIdx.x; model < params.models; model += gridDim.x) {
    const BlockMemory memory{in_shared ? shared : params.weights + model * p,
                             variance,
                             samples,
                             samples + at_once * plan.sample_floats,
                             gradients,
                             gradients + (plan.variational ? p : 0),
                             &state};
    train_block(Block<DeviceTeam>{{}, params, plan, memory, model}, at_once);
  }
}

// So many samples at a time that the last are as many as the others.
int even(int64_t batch, int64_t most) {
  const int64_t parts = (batch + most - 1) / most;
  return static_cast<int>((batch + parts - 1) / parts);
}

int64_t blocks_at_once(bool in_shared, int64_t shared_bytes) {
  int of_processor = 0, device = 0, processors = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_processor, in_shared ? train<true> : train<false>, kThreads,
                                                static_cast<size_t>(shared_bytes));
  return std::max<int64_t>(1, int64_t{processors} * of_processor);
}

}  // namespace

TrainGrid train_grid(const BlockPlan& plan, const TrainParams& params) {
  int device = 0, of_block = 0, of_processor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&of_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  cudaDeviceGetAttribute(&of_processor, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  // Always the same, so that threads of the host do not take it from each other.
  cudaFuncSetAttribute(train<true>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       of_block - static_cast<int>(sizeof(BlockState)));

  const int64_t gradients = matrices(plan) * params.parameters, bytes = sizeof(float);
  const int64_t fixed = gradients + partial_floats(kThreads, plan.variational);
  const auto samples_in = [&](int64_t memory) {
    return (memory - static_cast<int64_t>(sizeof(BlockState)) - fixed * bytes) / (plan.sample_floats * bytes);
  };
  const int64_t batch = std::min(params.batch_size, std::max<int64_t>(1, params.samples));
  // Two blocks hide each other's barriers; one that takes a single sample at a time has too little between them.
  const int64_t beside = samples_in(of_processor / 2 - kBlockReserve), alone = samples_in(of_block);
  TrainGrid grid{};
  grid.in_shared = alone >= 1;
  if (grid.in_shared) {
    grid.at_once = even(batch, beside >= std::min<int64_t>(2, batch) ? beside : alone);
    grid.shared_bytes = (fixed + grid.at_once * plan.sample_floats) * bytes;
    grid.floats = gradients;
    grid.blocks = blocks_at_once(true, grid.shared_bytes);
  } else {
    const int64_t variance = plan.variational ? params.parameters : 0;
    const int64_t in_scratch = gradients + variance + partial_floats(kThreads, plan.variational);
    const int64_t fitting = (int64_t{1} << 30) / plan.sample_floats;  // see HostTeam
    grid.at_once = even(batch, std::clamp<int64_t>(fitting, 1, kMostAtOnce));
    grid.floats = in_scratch + grid.at_once * plan.sample_floats;
    grid.blocks = std::clamp<int64_t>(kScratchBytes / (grid.floats * bytes), 1, blocks_at_once(false, 0));
  }
  grid.blocks = std::min(grid.blocks, std::max<int64_t>(1, params.models));
  return grid;
}

void launch_train(const TrainParams& params, const BlockPlan& plan, const TrainGrid& grid, float* scratch,
                  cudaStream_t stream) {
  if (params.models == 0) return;
  const unsigned blocks = static_cast<unsigned>(grid.blocks);
  if (grid.in_shared)
    train<true><<<blocks, kThreads, static_cast<size_t>(grid.shared_bytes), stream>>>(params, plan, grid.at_once,
                                                                                      scratch, grid.floats);
  else
    train<false><<<blocks, kThreads, 0, stream>>>(params, plan, grid.at_once, scratch, grid.floats);
}

}  // namespace zoosparse::cuda
