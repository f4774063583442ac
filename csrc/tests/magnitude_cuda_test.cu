// Selection on a device against sorting: every method (warp, block, passes), storage format and kind of row.
#include <cstdint>
#include <random>
#include <vector>

#include "cuda/magnitude.h"
#include "tests/device.h"
#include "tests/expect.h"
#include "tests/magnitude_rows.h"

namespace zoosparse::test {
namespace {

// n rows of p columns in segments, with counts of its own for every row and segment.
template <class Format>
void check_rows(Kind kind, int64_t n, const std::vector<int64_t>& segments, std::mt19937& random) {
  using Word = typename Format::Word;
  const int64_t p = segments.back(), s = static_cast<int64_t>(segments.size()) - 1;
  std::vector<Word> words, pruned, thresholds;
  std::vector<uint8_t> mask(n * p, 1);
  std::vector<int64_t> k;
  for (int64_t row = 0; row < n; ++row) {
    const std::vector<Word> weights = draw_words<Format>(kind, p, random);
    words.insert(words.end(), weights.begin(), weights.end());
    pruned.insert(pruned.end(), weights.begin(), weights.end());
    for (int64_t i = 0; i < s; ++i) {
      const auto order = order_of_pruning<Format>(weights, segments[i], segments[i + 1]);
      const auto width = static_cast<int64_t>(order.size());
      const int64_t choices[] = {0, width / 2, width * 4 / 5, width, static_cast<int64_t>(random() % (width + 1))};
      k.push_back(choices[random() % 5]);
      for (int64_t j = 0; j < k.back(); ++j) mask[row * p + order[j]] = 0, pruned[row * p + order[j]] = 0;
      thresholds.push_back(k.back() > 0 ? static_cast<Word>(key_of<Format>(weights[order[k.back() - 1]])) : Word{0});
    }
  }

  const OnDevice<Word> weights(words), found(std::vector<Word>(n * s));
  const OnDevice<int64_t> counts(k);
  const OnDevice keep(std::vector<uint8_t>(n * p, 0xa5));
  const cuda::SelectRows rows{weights.get(),    keep.get(),   found.get(), counts.get(), n, p, s,
                              Format::infinity, sizeof(Word), true};
  const OnDevice scratch(std::vector<uint8_t>(cuda::select_scratch_bytes(rows, segments.data()), 0xa5));
  cuda::launch_select(rows, segments.data(), scratch.get(), nullptr);
  expect(keep.read() == mask, "mask", "cuda", p);
  expect(weights.read() == pruned, "weights", "cuda", p);
  const std::vector<Word> levels = found.read();
  for (size_t i = 0; i < k.size(); ++i)
    if (k[i] > 0 && thresholds[i] <= Format::infinity) expect(levels[i] == thresholds[i], "threshold", "cuda", p);
}

// Masks of one sparsity after the other, from one reading of the rows.
template <class Format>
void check_masks(Kind kind, int64_t n, int64_t p, std::mt19937& random) {
  using Word = typename Format::Word;
  const int64_t bytes = (p + 7) / 8, tenths[] = {5, 0, 8, 10, 1, 12, 9};
  constexpr int64_t kMasks = 7;
  std::vector<Word> words;
  std::vector<uint8_t> expected(kMasks * n * bytes);
  std::vector<int64_t> k(kMasks * n);
  for (int64_t row = 0; row < n; ++row) {
    const std::vector<Word> weights = draw_words<Format>(kind, p, random);
    words.insert(words.end(), weights.begin(), weights.end());
    const auto order = order_of_pruning<Format>(weights, 0, p);
    for (int64_t mask = 0; mask < kMasks; ++mask) {
      const int64_t at = mask * n + row;
      k[at] = p * tenths[mask] / 10;
      for (int64_t j = k[at]; j < p; ++j) expected[at * bytes + order[j] / 8] |= uint8_t(1 << order[j] % 8);
    }
  }
  const OnDevice<Word> weights(words);
  const OnDevice<int64_t> counts(k);
  const OnDevice packed(std::vector<uint8_t>(expected.size(), 0xa5));
  const cuda::SelectRows rows{weights.get(),    nullptr,      nullptr, counts.get(), n, p, 1,
                              Format::infinity, sizeof(Word), false};
  if (!cuda::can_select_masks(rows)) return expect(p > 8192, "rows fit", "cuda", p);
  cuda::launch_select_masks(rows, kMasks, packed.get(), nullptr);
  expect(packed.read() == expected, "masks", "cuda", p);
}

template <class Format>
void check_format(std::mt19937& random) {
  for (int kind = 0; kind < kKinds; ++kind) {
    for (const int64_t p : {1, 31, 33, 128, 129, 500, 1024, 1025, 2464, 3073, 8193, 17000})
      check_rows<Format>(static_cast<Kind>(kind), p > 3000 ? 2 : 5, {0, p}, random);
    for (const int64_t p : {1, 33, 1024, 1025, 2464, 3073, 8193, 17000})
      check_masks<Format>(static_cast<Kind>(kind), 3, p, random);
    check_rows<Format>(static_cast<Kind>(kind), 3, {0, 0, 1, 18, 18, 400, 700, 2500, 2500}, random);
  }
}

// More segments than one launch takes, of all methods at once.
void check_many_segments(std::mt19937& random) {
  std::vector<int64_t> segments{0};
  for (int i = 0; i < 150; ++i) segments.push_back(segments.back() + (i % 50 == 7 ? 18000 : i % 10 == 3 ? 1500 : i));
  check_rows<Float32>(normal, 2, segments, random);
}

}  // namespace
}  // namespace zoosparse::test

// With an argument, little enough for compute-sanitizer: every kernel of float32.
int main(int argc, char**) {
  using namespace zoosparse::test;
  if (!has_device()) return kSkipped;
  std::mt19937 random(1);
  if (argc > 1) {
    for (const Kind kind : {trained, few_values})
      for (const int64_t p : {100, 500, 1000, 2464, 5000, 12000, 17000}) {
        check_rows<Float32>(kind, 2, {0, p}, random);
        check_masks<Float32>(kind, 2, p, random);
      }
    return failures != 0;
  }
  check_format<Float32>(random);
  check_format<Float64>(random);
  check_format<BFloat16>(random);
  check_many_segments(random);
  return failures != 0;
}
