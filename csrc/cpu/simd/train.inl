// Many training steps of W models at once, one model per lane: forward and backward sample by sample, gradients added
// up over the batch, then the optimizer. Parameters stay in the lane layout [P][W] for the whole call. One thread leads
// a group; others that have nothing to lead take parts of its batches.
#include "cpu/simd/train.h"

#include "cpu/simd/train_backward.inl"
#include "cpu/simd/train_images.inl"
#include "cpu/simd/train_step.inl"

#ifndef ZOOSPARSE_TRAIN_LANES
#define ZOOSPARSE_TRAIN_LANES (kVectorBytes / 4)
#endif

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

template <int W>
void train_sample(const Group<W>& group, int64_t t, SampleAt sample, float share, double (&loss)[W],
                  int64_t (&correct)[W]) {
  const TrainPlan& plan = group.plan;
  int64_t index[W];
  group.sample_indices(t, index);
  Ints<W> label;
  for (int l = 0; l < W; ++l) label[l] = static_cast<int32_t>(group.params.labels[index[l]]);
  load_images<W>(group, index, sample);
  for (int s = 0; s < plan.count; ++s) stage_forward<W>(group, plan.stages[s], sample);
  const LossOfSample<W> result = loss_of_sample<W>(group.params.loss, group.at(plan.logits), plan.classes, label, share,
                                                   group.at(plan.gradient[0]));
  backward<W>(group);
  for (int l = 0; l < W; ++l) {
    loss[l] += result.loss[l];
    correct[l] -= result.correct[l];
  }
}

template <int W>
void train_part(Group<W>& group, BatchParts& parts, int64_t taken) {
  const TrainParams& params = group.params;
  const BatchPart part = parts.part(taken);
  double loss[W] = {};
  int64_t correct[W] = {};
  group.add_to(part.first == 0);
  clear_gradients<W>(group);
  for (int64_t i = part.first; i < part.first + part.count; ++i)
    train_sample<W>(group, part.step * params.batch_size + i, {params.first_step + part.step, static_cast<int>(i)},
                    1.0f / static_cast<float>(part.batch), loss, correct);
  parts.await_turn(taken);
  if (part.first > 0) add_gradients<W>(group);
  for (int l = 0; l < group.active; ++l) {
    params.loss_sum[group.model[l]] += loss[l];
    params.correct[group.model[l]] += correct[l];
  }
  parts.finish(taken);
}

template <int W>
void lead(const TrainParams& params, const TrainPlan& plan, int64_t first, BatchParts& parts, float* own) {
  Group<W> group(params, plan, first, parts.shared(), own);
  group.load();
  for (int64_t step = 0; step < parts.steps(); ++step) {
    begin_step<W>(group);
    parts.open(step);
    for (int64_t taken = parts.take(); taken >= 0; taken = parts.take()) train_part<W>(group, parts, taken);
    parts.await_end(step);
    end_step<W>(group, step);
  }
  group.store();
}

template <int W>
void help(const TrainParams& params, const TrainPlan& plan, int64_t first, BatchParts& parts, float* own) {
  int64_t taken = parts.await_part();
  if (taken < 0) return;
  Group<W> group(params, plan, first, parts.shared(), own);
  for (; taken >= 0; taken = parts.await_part()) train_part<W>(group, parts, taken);
}

template <int W>
float multiply_adds(int64_t count) {
  constexpr int kChains = 12;  // more than latency x units on any CPU here
  Floats<W> sum[kChains], factor = broadcast<W>(0.999f), term = broadcast<W>(0.001f);
  for (int j = 0; j < kChains; ++j) sum[j] = broadcast<W>(static_cast<float>(j));  // else they were one chain
  for (int64_t i = 0; i < count; i += kChains * W) {
    for (int j = 0; j < kChains; ++j) sum[j] = sum[j] * factor + term;
    asm volatile("" : "+r"(i));  // no round may be folded into another
  }
  for (int j = 1; j < kChains; ++j) sum[0] += sum[j];
  return sum[0][0];
}

}  // namespace

extern const TrainKernels train_kernels;
const TrainKernels train_kernels = {ZOOSPARSE_TRAIN_LANES, &lead<ZOOSPARSE_TRAIN_LANES>, &help<ZOOSPARSE_TRAIN_LANES>,
                                    &multiply_adds<ZOOSPARSE_TRAIN_LANES>};

}  // namespace zoosparse::ZOOSPARSE_ISA
