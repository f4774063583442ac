// A device on the CPU. Blocks run one after the other, the threads of a block from one barrier to the next, both in an
// order that chance decides; a thread is a stack of its own. Under the thread sanitizer it is a thread to it as well,
// ordered with others by barriers and launches alone: races are found as racecheck finds them on a device. Fresh memory
// holds NaN. This file itself is compiled without sanitizers.
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "cuda_runtime.h"

extern "C" {
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void __tsan_switch_to_fiber(void* fiber, unsigned flags);
[[gnu::weak]] void __tsan_acquire(void* token);
[[gnu::weak]] void __tsan_release(void* token);
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** saved, const void* stack, size_t size);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* saved, const void** stack, size_t* size);
}

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace simt {
namespace {

constexpr size_t kStackBytes = 256 << 10;
constexpr int kSharedOfBlock = 232448, kSharedOfProcessor = 233472, kSharedUnasked = 48 << 10;  // those of 9.0
constexpr unsigned kMostThreads = 1024, kMostBlocksY = 65535, kNoSync = 1;

enum class State { ready, at_barrier, in_exchange, done };

struct Thread {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  void* fiber = nullptr;  // of the thread sanitizer
  void* saved = nullptr;  // by the address sanitizer
  State state;
  dim3 index;
  int barriers;
  char value[16];
};

struct Host {
  ucontext_t context;
  void* fiber = nullptr;
  void* saved = nullptr;
  const void* stack = nullptr;
  size_t stack_bytes = 0;
};

std::vector<Thread> threads;
Thread* running;
Host host;
const std::function<void()>* body;
void* shared;
int allowed_shared = kSharedUnasked;
std::mt19937 chance(1);
char begin_token, end_token, barrier_tokens[2];  // two, since some arrive at the next before others have left the last

bool sees_races() { return __tsan_create_fiber != nullptr; }
bool sees_addresses() { return !sees_races() && __sanitizer_start_switch_fiber != nullptr; }
void acquire(char& token) {
  if (sees_races()) __tsan_acquire(&token);
}
void release(char& token) {
  if (sees_races()) __tsan_release(&token);
}

void fail(const char* why) {
  std::printf("FAILED: %s\n", why);
  std::fflush(stdout);
  std::abort();
}

void resume(Thread& thread) {
  running = &thread;
  threadIdx = thread.index;
  if (sees_races()) __tsan_switch_to_fiber(thread.fiber, kNoSync);
  if (sees_addresses()) __sanitizer_start_switch_fiber(&host.saved, thread.stack.get(), kStackBytes);
  swapcontext(&host.context, &thread.context);
  if (sees_addresses()) __sanitizer_finish_switch_fiber(host.saved, nullptr, nullptr);
}

void suspend(State state) {
  Thread& thread = *running;
  thread.state = state;
  if (sees_races()) __tsan_switch_to_fiber(host.fiber, kNoSync);
  void** const saved = state == State::done ? nullptr : &thread.saved;
  if (sees_addresses()) __sanitizer_start_switch_fiber(saved, host.stack, host.stack_bytes);
  swapcontext(&thread.context, &host.context);
  if (sees_addresses()) __sanitizer_finish_switch_fiber(thread.saved, nullptr, nullptr);
}

void run_thread() {
  if (sees_addresses()) __sanitizer_finish_switch_fiber(nullptr, &host.stack, &host.stack_bytes);
  acquire(begin_token);
  (*body)();
  release(end_token);
  suspend(State::done);
}

void prepare_threads(dim3 block) {
  const unsigned count = block.x * block.y * block.z;
  if (threads.size() < count) threads.resize(count);
  if (sees_races()) host.fiber = __tsan_get_current_fiber();
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = threads[i];
    if (thread.stack == nullptr) thread.stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
    if (sees_races() && thread.fiber == nullptr) thread.fiber = __tsan_create_fiber(0);
    thread.state = State::ready;
    thread.barriers = 0;
    thread.index = dim3(i % block.x, i / block.x % block.y, i / block.x / block.y);
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = kStackBytes;
    makecontext(&thread.context, run_thread, 0);
  }
}

// Runs the threads of one block to their end.
void run_block(unsigned count) {
  std::vector<unsigned> ready(count), exchanging(count / kWarpSize);
  std::iota(ready.begin(), ready.end(), 0u);
  std::shuffle(ready.begin(), ready.end(), chance);
  unsigned waiting = 0, done = 0;
  while (done < count) {
    if (ready.empty()) {
      if (waiting < count) fail("some threads wait for others that never come");
      waiting = 0;
      ready.resize(count);
      std::iota(ready.begin(), ready.end(), 0u);
      std::shuffle(ready.begin(), ready.end(), chance);
    }
    const unsigned i = ready.back(), warp = i / kWarpSize;
    ready.pop_back();
    resume(threads[i]);
    done += threads[i].state == State::done;
    waiting += threads[i].state == State::at_barrier;
    if (threads[i].state != State::in_exchange || ++exchanging[warp] < kWarpSize) continue;
    exchanging[warp] = 0;
    const auto at = chance() % 2 == 0 ? ready.begin() : ready.end();
    const auto first = ready.insert(at, kWarpSize, 0u);
    std::iota(first, first + kWarpSize, warp * kWarpSize);
    std::shuffle(first, first + kWarpSize, chance);
  }
}

}  // namespace

void launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t, const std::function<void()>& thread) {
  const unsigned count = block.x * block.y * block.z;
  if (count == 0 || count > kMostThreads || count % kWarpSize != 0) fail("threads of a block");
  if (grid.x == 0 || grid.x > INT32_MAX || grid.y == 0 || grid.y > kMostBlocksY || grid.z != 1)
    fail("blocks of a grid");
  if (shared_bytes > static_cast<size_t>(allowed_shared)) fail("shared memory that was not asked for");
  gridDim = grid;
  blockDim = block;
  body = &thread;
  std::vector<uint64_t> blocks(uint64_t{grid.x} * grid.y);
  std::iota(blocks.begin(), blocks.end(), 0u);
  std::shuffle(blocks.begin(), blocks.end(), chance);
  for (const uint64_t number : blocks) {
    blockIdx = dim3(static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x));
    allocate(&shared, shared_bytes);
    release(begin_token);
    prepare_threads(block);
    run_block(count);
    acquire(end_token);
    std::free(shared);
  }
}

float* dynamic_shared() { return static_cast<float*>(shared); }
void allow_dynamic_shared(int bytes) {
  if (bytes > kSharedOfBlock) fail("more shared memory than a block has");
  allowed_shared = std::max(allowed_shared, bytes);
}

// Byte by byte, since the thread sanitizer looks into memcpy.
void exchange(const void* mine, void* all, size_t size) {
  Thread& thread = *running;
  if (size > sizeof(thread.value)) fail("a value too large to exchange");
  for (size_t i = 0; i < size; ++i) thread.value[i] = static_cast<const volatile char*>(mine)[i];
  suspend(State::in_exchange);
  const Thread* const warp = threads.data() + (&thread - threads.data()) / kWarpSize * kWarpSize;
  for (size_t i = 0; i < kWarpSize * size; ++i) static_cast<volatile char*>(all)[i] = warp[i / size].value[i % size];
  suspend(State::in_exchange);  // all have read before anyone brings the next
}

cudaError_t allocate(void** memory, size_t bytes) {
  *memory = std::malloc(bytes);
  if (bytes > 0) std::memset(*memory, 0xff, bytes);
  return cudaSuccess;
}

}  // namespace simt

void __syncthreads() {
  char& token = simt::barrier_tokens[simt::running->barriers++ % 2];
  simt::release(token);
  simt::suspend(simt::State::at_barrier);
  simt::acquire(token);
}

cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "none"; }
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount            ? 2
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? simt::kSharedOfBlock
                                                                  : simt::kSharedOfProcessor;
  return cudaSuccess;
}
