#include "cpu/batch_parts.h"

#include <algorithm>
#include <thread>

namespace zoosparse {
namespace {

// Parts take fractions of a millisecond, so waiting threads look again at once; where there are more threads than
// cores, the one that is waited for must get its turn.
template <class Condition>
void await(const Condition& condition) {
  for (int look = 0; !condition(); ++look)
    if (look >= 256) std::this_thread::yield();
}

// A part costs a pass over the gradients: that of five samples is worth it. A power of two, for so are most counts of
// cores; the size of the batch alone decides, since the sum depends on it.
int64_t parts_of(int64_t batch_size) {
  int64_t parts = 1;
  while (parts < 8 && batch_size >= 10 * parts) parts *= 2;
  return parts;
}

}  // namespace

BatchParts::BatchParts(int64_t samples, int64_t batch_size)
    : samples_(samples),
      batch_size_(batch_size),
      per_batch_(parts_of(batch_size)),
      steps_((samples + batch_size - 1) / batch_size) {}

// The larger parts come first, so that two threads share an even batch equally.
BatchPart BatchParts::part(int64_t number) const {
  const int64_t step = number / per_batch_, k = number % per_batch_;
  const int64_t batch = std::min(batch_size_, samples_ - step * batch_size_);
  const int64_t size = batch / per_batch_, larger = batch % per_batch_;
  return {step, batch, k * size + std::min(k, larger), size + (k < larger)};
}

void BatchParts::open(int64_t step) { open_.store((step + 1) * per_batch_, std::memory_order_release); }

int64_t BatchParts::take() {
  int64_t number = next_.load(std::memory_order_acquire);
  while (number < open_.load(std::memory_order_acquire))
    if (next_.compare_exchange_weak(number, number + 1, std::memory_order_acq_rel)) return number;
  return -1;
}

int64_t BatchParts::await_part() {
  int64_t number = -1;
  await([&] { return (number = take()) >= 0 || next_.load(std::memory_order_acquire) >= steps_ * per_batch_; });
  return number;
}

void BatchParts::await_turn(int64_t number) const {
  await([&] { return finished_.load(std::memory_order_acquire) >= number; });
}

}  // namespace zoosparse
