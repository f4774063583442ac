// Selection by magnitude on the GPU: launches here, kernels in magnitude.cu. Counts stay on the device, unread, since
// looking at them would wait for all work there: the kernels clamp them to the widths of the segments.
#include "cuda/magnitude.h"

#include "common/magnitude_arguments.h"
#include "common/operators.h"
#include "cuda/launch.h"
#include "cuda/masks.h"

namespace zoosparse::cuda {
namespace {

SelectRows rows_of(const SelectArguments& arguments) {
  return {
      .weights = const_cast<uint8_t*>(read<uint8_t>(arguments.rows())),
      .mask = nullptr,
      .thresholds = nullptr,
      .k = arguments.k(),
      .n = arguments.models(),
      .p = arguments.parameters(),
      .s = arguments.segment_count(),
      .infinity = arguments.infinity(),
      .word_size = arguments.word_size(),
      .prune = false,
  };
}

void select_rows(const SelectRows& rows, const SelectArguments& arguments, const Launch& launch) {
  const Tensor scratch = launch.space(select_scratch_bytes(rows, arguments.segments()), ScalarType::Byte);
  launch_select(rows, arguments.segments(), write<uint8_t>(scratch), launch.stream());
  launch.check();
}

}  // namespace

Tensor magnitude_threshold(const Tensor& weights, const Tensor& k, Ints segments) {
  const Launch launch(weights, "magnitude_threshold");
  const SelectArguments arguments("magnitude_threshold", weights, k, segments);
  const Tensor thresholds = arguments.empty_thresholds();
  SelectRows rows = rows_of(arguments);
  rows.thresholds = write<uint8_t>(thresholds);
  select_rows(rows, arguments, launch);
  return thresholds;
}

Tensor magnitude_mask(const Tensor& weights, const Tensor& k, Ints segments) {
  const Launch launch(weights, "magnitude_mask");
  const SelectArguments arguments("magnitude_mask", weights, k, segments);
  const Tensor mask = arguments.empty_mask();
  SelectRows rows = rows_of(arguments);
  rows.mask = write<uint8_t>(mask);
  select_rows(rows, arguments, launch);
  return mask;
}

Tensor magnitude_prune_(const Tensor& weights, const Tensor& k, Ints segments) {
  const Launch launch(weights, "magnitude_prune_");
  const SelectArguments arguments("magnitude_prune_", weights, k, segments);
  const Tensor mask = arguments.empty_mask();
  SelectRows rows = rows_of(arguments);
  rows.weights = write<uint8_t>(arguments.rows());
  rows.mask = write<uint8_t>(mask);
  rows.prune = true;
  select_rows(rows, arguments, launch);
  arguments.write_back();
  return mask;
}

// A row is read once for all masks where a block holds it; else a selection and a packing per mask, for which the
// weights come from the L2 cache the second time if they fit there.
Tensor magnitude_masks(const Tensor& weights, const Tensor& k, Ints segments) {
  const Launch launch(weights, "magnitude_masks");
  const SelectArguments arguments("magnitude_masks", weights, k, segments, 3);
  const int64_t masks = arguments.masks(), n = arguments.models(), p = arguments.parameters();
  const int64_t bytes = n * ((p + 7) / 8);
  const Tensor packed = arguments.empty_packed_masks();
  SelectRows rows = rows_of(arguments);
  if (can_select_masks(rows)) {
    launch_select_masks(rows, masks, write<uint8_t>(packed), launch.stream());
    launch.check();
    return packed;
  }
  const Tensor mask = arguments.empty_mask();  // one after the other
  rows.mask = write<uint8_t>(mask);
  for (int64_t i = 0; i < masks; ++i) {
    rows.k = arguments.k() + i * n * rows.s;
    select_rows(rows, arguments, launch);
    launch_pack_mask(rows.mask, n, p, write<uint8_t>(packed) + i * bytes, launch.stream());
    launch.check();
  }
  return packed;
}

}  // namespace zoosparse::cuda
