// What a block of threads works on when it trains one model. Every function runs on the CPU as well, where ctest plays
// all threads in turn; csrc/cuda/train.cu adds memory and launches.
//
// The block stays on its model for all steps of a call. It takes the samples of a batch a few at a time, as many as its
// memory holds, and goes through forward and backward stage by stage: within a stage every thread takes outputs, or
// weights, of its own, so that nothing is added up in an order that chance decides. Weights are read all the time and
// lie in shared memory with the activations; gradients, moments and log sigma^2 are touched once for some samples, or
// once a step, and stay in the caches of global memory, which leaves their room to more samples.
#pragma once

#include <cstdint>

#include "common/scalar.h"
#include "cuda/train_block_plan.h"

namespace zoosparse {

// The threads of a block. A team calls body(i) for the i below `count` that are this thread's; on the host, where one
// thread plays all, for every i. Counts are ints, whose divisions are quick on a GPU: the samples of a run have fewer
// than 2^31 activations together.
struct HostTeam {
  int size;        // threads that are played
  bool backwards;  // in which order: what two threads do between barriers must not meet

  ZOOSPARSE_HOST_DEVICE int threads() const { return size; }
  ZOOSPARSE_HOST_DEVICE void barrier() const {}
  template <class Body>
  ZOOSPARSE_HOST_DEVICE void each(int count, const Body& body) const {
    for (int i = 0; i < count; ++i) body(backwards ? count - 1 - i : i);
  }
};

// What thread 0 adds up, and what it works out for all.
struct BlockState {
  StepRule<Scalar> rule;
  double loss;
  int64_t correct;
};

constexpr int kGradientTaps = 8;  // taps of one channel whose gradients a thread adds up

// Sums that threads leave for others to add: of taps, and of a bias.
constexpr int64_t partial_floats(int threads, bool variational) {
  return int64_t{threads} * (kGradientTaps + 1) * (variational ? 2 : 1);
}

// Memory of one block, [P] unless said otherwise. Where `weights` is not the matrix's own row, it is a copy.
struct BlockMemory {
  float* weights;
  float* variance;  // exp(log alpha) w^2
  float* samples;   // [samples at once, plan.sample_floats]
  float* partial;   // [partial_floats]
  float* weight_gradient;
  float* variance_gradient;
  BlockState* state;
};

// Some samples of a batch.
struct SampleRun {
  int64_t step;
  int64_t start;  // place of the first in the order
  int first;      // place of the first in its batch
  int count;
  float share;  // of each in the loss of its batch
};

template <class Team>
struct Block {
  Team team;
  const TrainParams& params;
  const BlockPlan& plan;
  BlockMemory memory;
  int64_t model;

  ZOOSPARSE_HOST_DEVICE float* sample(int number) const { return memory.samples + number * plan.sample_floats; }
  ZOOSPARSE_HOST_DEVICE int64_t place_in_matrix(int64_t column) const { return model * params.parameters + column; }

  ZOOSPARSE_HOST_DEVICE ScalarStream stream(RandomPurpose purpose, int op, const SampleRun& run, int number) const {
    ScalarStream random{};
    random.key0 = static_cast<uint32_t>(params.seeds[model]);
    random.key1 = static_cast<uint32_t>(params.seed);
    random.step = static_cast<uint32_t>(run.step);
    random.stream = stream_id(purpose, op);
    random.sample = static_cast<uint32_t>(run.first + number);
    return random;
  }

  ZOOSPARSE_HOST_DEVICE bool has_variational_bias(const TrainOp& op) const {
    return plan.variational && params.variational_bias && op.kind == OpKind::conv2d;
  }

  // Calls body(number of the sample, element) for all elements of all samples.
  template <class Body>
  ZOOSPARSE_HOST_DEVICE void each_element(int samples, int elements, const Body& body) const {
    team.each(samples * elements, [&](int i) {
      const int number = i / elements;
      body(number, i - number * elements);
    });
  }
};

// Calls body with the constant true or false.
template <bool b>
struct BoolConstant {
  static constexpr bool value = b;
};
template <class Body>
ZOOSPARSE_HOST_DEVICE static inline void with_bool(bool choice, const Body& body) {
  if (choice)
    body(BoolConstant<true>{});
  else
    body(BoolConstant<false>{});
}

}  // namespace zoosparse
