// The batches of one group of models, each cut into parts that several threads may work on.
#pragma once

#include <atomic>
#include <cstdint>

namespace zoosparse {

// Samples [first, first + count) of a step's batch.
struct BatchPart {
  int64_t step, batch, first, count;
};

// Gradients are summed within a part, and the parts in their order, whoever worked on them: a step gives the same bits
// on any number of threads. The thread that leads the group opens a step, takes parts like the others, and waits for
// the last one. It waits for no thread that has taken none, so a group ends without any helper.
class BatchParts {
 public:
  BatchParts(int64_t samples, int64_t batch_size);

  int64_t per_batch() const { return per_batch_; }  // as many threads can share a group
  int64_t steps() const { return steps_; }
  BatchPart part(int64_t number) const;  // numbers count on from step to step

  // The leader's.
  void begin(float* shared) { shared_ = shared; }
  void open(int64_t step);  // its weights are ready
  void await_end(int64_t step) const { await_turn((step + 1) * per_batch_); }

  // Anyone's.
  int64_t take();                         // the number of the next open part, or -1
  int64_t await_part();                   // the next part, once it is open, or -1: all have been taken
  void await_turn(int64_t number) const;  // until all parts before it are finished
  void finish(int64_t number) { finished_.store(number + 1, std::memory_order_release); }
  float* shared() const { return shared_; }  // once await_part has returned

 private:
  const int64_t samples_, batch_size_, per_batch_, steps_;
  float* shared_ = nullptr;
  alignas(64) std::atomic<int64_t> open_{0};  // parts below it may be taken
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<int64_t> finished_{0};
};

}  // namespace zoosparse
