// Many training steps of W models at once, one model per lane: forward and backward sample by sample, gradients added
// up over the batch, then the optimizer. Parameters stay in the lane layout [P][W] for the whole call. Threads
// that share a group take pieces of each batch and of each update.
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
void train_sample(const Group<W>& group, int64_t t, SampleAt sample, float share, PartResult<W>& result) {
  const TrainPlan& plan = group.plan;
  int64_t index[W];
  group.sample_indices(t, index);
  Ints<W> label;
  for (int l = 0; l < W; ++l) label[l] = static_cast<int32_t>(group.params.labels[index[l]]);
  load_images<W>(group, index, sample);
  for (int s = 0; s < plan.count; ++s) stage_forward<W>(group, plan.stages[s], sample);
  const LossOfSample<W> loss = loss_of_sample<W>(group.params.loss, group.at(plan.logits), plan.classes, label, share,
                                                 group.at(plan.gradient[0]));
  backward<W>(group);
  for (int l = 0; l < W; ++l) {
    result.loss[l] += loss.loss[l];
    result.correct[l] -= loss.correct[l];
  }
}

template <int W>
void train_part(Group<W>& group, const GroupWork& work, const Piece& part) {
  const TrainParams& params = group.params;
  const Range samples = work.samples(part);
  const float share = 1.0f / static_cast<float>(work.batch(part.step));
  PartResult<W> result{};
  group.add_to(part.number);
  clear_gradients<W>(group);
  for (int64_t i = samples.first; i < samples.first + samples.count; ++i)
    train_sample<W>(group, part.step * params.batch_size + i, {params.first_step + part.step, static_cast<int>(i)},
                    share, result);
  group.result_of(part.number) = result;
}

template <int W>
void add_results(const Group<W>& group, int parts) {
  for (int k = 0; k < parts; ++k) {
    const PartResult<W>& part = group.result_of(k);
    for (int l = 0; l < group.active; ++l) {
      group.params.loss_sum[group.model[l]] += part.loss[l];
      group.params.correct[group.model[l]] += part.correct[l];
    }
  }
}

template <int W>
void update(const Group<W>& group, const GroupWork& work, const Piece& piece) {
  const Range range = work.columns(piece, group.params.parameters);
  update_weights<W>(group, work.pieces(), range, piece.step);
  find_variances<W>(group, range);
  if (piece.number == 0) add_results<W>(group, work.pieces());
}

template <int W>
void work_on(const TrainParams& params, const TrainPlan& plan, int64_t first, GroupWork& work, int preferred,
             float* own) {
  Piece piece = work.next(preferred);
  if (piece.task == Task::none) return;
  Group<W> group(params, plan, first, work.shared(), own);
  for (; piece.task != Task::none; piece = work.next(preferred)) {
    switch (piece.task) {
      case Task::load:
        group.load(work.columns(piece, params.parameters));
        find_variances<W>(group, work.columns(piece, params.parameters));
        break;
      case Task::batch:
        train_part<W>(group, work, piece);
        break;
      case Task::update:
        update<W>(group, work, piece);
        break;
      default:
        group.store(work.columns(piece, params.parameters));
    }
    work.finish();
  }
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
const TrainKernels train_kernels = {ZOOSPARSE_TRAIN_LANES, &work_on<ZOOSPARSE_TRAIN_LANES>,
                                    &multiply_adds<ZOOSPARSE_TRAIN_LANES>};

}  // namespace zoosparse::ZOOSPARSE_ISA
