// Exact selection by magnitude within one row: for one count of pruned weights here, for many in magnitude_grid.inl.
#include "cpu/simd/magnitude_grid.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

// Columns [first, last): kept where the key is above `limit`. Plain loops: compilers pack lanes of 4 bytes into bytes
// of a mask better than the vector extensions do.
template <class Word, class Key>
void write(Run<Key> run, int64_t first, int64_t last, Key limit, Word* __restrict weights, uint8_t* __restrict mask) {
  const Key* __restrict keys = run.keys;
  for (int64_t i = first; i < last; ++i) mask[i] = keys[i] > limit;
  if (weights == nullptr) return;
  for (int64_t i = first; i < last; ++i) weights[i] = keys[i] > limit ? weights[i] : Word(0);
}

template <class Word, class Key>
void select_row(const SelectRow& row) {
  const auto infinity = static_cast<Key>(row.infinity);
  auto* const thresholds = static_cast<Word*>(row.thresholds);
  for (int64_t s = 0; s < row.segment_count; ++s) {
    const int64_t start = row.segments[s], count = row.segments[s + 1] - start, k = row.k[s];
    auto* const weights = static_cast<Word*>(row.weights) + start;
    auto* const pruned = row.prune ? weights : nullptr;
    auto* const mask = row.mask != nullptr ? row.mask + start : nullptr;
    if (k == 0) {
      if (thresholds != nullptr) thresholds[s] = minus_infinity<Word>(infinity);
      if (mask != nullptr) __builtin_memset(mask, 1, count);
      continue;
    }
    const int64_t room = select_room(count);
    auto* const scratch = static_cast<Key*>(row.scratch);
    const Run<Key> run = make_keys<Word, Key>(weights, count, infinity, scratch);
    const auto last = select(run, k - 1, Key(0), kPadding<Key>, scratch + room, scratch + 2 * room);
    if (thresholds != nullptr) thresholds[s] = weight_of_key<Word>(last.key, infinity);
    if (mask == nullptr) continue;
    const int64_t cut = cut_of(run, k, last);
    write<Word, Key>(run, 0, cut, last.key, pruned, mask);
    write<Word, Key>(run, cut, count, last.key - 1, pruned, mask);
  }
}

}  // namespace

extern const MagnitudeKernels magnitude_kernels;
const MagnitudeKernels magnitude_kernels{select_row<uint16_t, int32_t>,  select_row<uint32_t, int32_t>,
                                         select_row<uint64_t, int64_t>,  select_grid<uint16_t, int32_t>,
                                         select_grid<uint32_t, int32_t>, select_grid<uint64_t, int64_t>};

}  // namespace zoosparse::ZOOSPARSE_ISA
