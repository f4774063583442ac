#include "cpu/simd/magnitude.h"

#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "tests/magnitude_rows.h"
#include "tests/variants.h"

ZOOSPARSE_VARIANTS(MagnitudeKernels, magnitude_kernels)

namespace zoosparse::test {
namespace {

constexpr uint8_t kGuard = 0xa5;  // one element beyond the end that nobody may touch

template <class Format>
constexpr auto kKernel = sizeof(typename Format::Word) == 2   ? &MagnitudeKernels::select16
                         : sizeof(typename Format::Word) == 4 ? &MagnitudeKernels::select32
                                                              : &MagnitudeKernels::select64;

template <class Format>
void check_row(const Variant<MagnitudeKernels>& variant, Kind kind, int64_t p, int64_t split, int64_t k0, int64_t k1,
               std::mt19937& random) {
  using Word = typename Format::Word;
  std::vector<Word> weights = draw_words<Format>(kind, p, random);
  weights.push_back(Word{kGuard});

  const int64_t segments[] = {0, split, p}, k[] = {k0, k1};
  std::vector<uint8_t> expected_mask(p + 1, 1);
  expected_mask[p] = kGuard;
  std::vector<Word> expected = weights, thresholds(2);
  for (int s = 0; s < 2; ++s) {
    const std::vector<int64_t> order = order_of_pruning<Format>(weights, segments[s], segments[s + 1]);
    for (int64_t i = 0; i < k[s]; ++i) expected_mask[order[i]] = 0, expected[order[i]] = 0;
    if (k[s] > 0) thresholds[s] = static_cast<Word>(key_of<Format>(weights[order[k[s] - 1]]));
  }

  std::vector<uint8_t> mask(p + 1, kGuard);
  std::vector<Word> found(2);
  std::vector<uint64_t> scratch(select_scratch_words(p));
  auto row =
      SelectRow{weights.data(), mask.data(), found.data(), segments, k, 2, Format::infinity, true, scratch.data()};
  (variant.table->*kKernel<Format>)(row);
  expect(mask == expected_mask, "mask", variant.name, p);
  expect(weights == expected, "weights", variant.name, p);
  for (int s = 0; s < 2; ++s) {
    const bool is_nan = thresholds[s] > static_cast<uint64_t>(Format::infinity);
    if (k[s] > 0) expect(is_nan ? found[s] > thresholds[s] : found[s] == thresholds[s], "threshold", variant.name, p);
  }
}

// Masks for counts in no order, some of them twice, in two segments of which the second starts at any bit.
template <class Format>
void check_grid(const Variant<MagnitudeKernels>& variant, Kind kind, int64_t p, int64_t split, std::mt19937& random) {
  using Word = typename Format::Word;
  constexpr int64_t kMasks = 12;
  const std::vector<Word> weights = draw_words<Format>(kind, p, random);
  const int64_t segments[] = {0, split, p}, stride = (p + 7) / 8 + 1;
  int64_t k[kMasks][2];
  for (auto& counts : k)
    for (int s = 0; s < 2; ++s) counts[s] = random() % (segments[s + 1] - segments[s] + 1);
  k[0][0] = k[0][1] = 0, k[5][0] = k[4][0], k[7][0] = split, k[7][1] = p - split;

  std::vector<uint8_t> packed(kMasks * stride, kGuard), expected = packed;
  for (int64_t m = 0; m < kMasks; ++m) {
    for (int64_t byte = 0; byte + 1 < stride; ++byte) expected[m * stride + byte] = 0;
    for (int s = 0; s < 2; ++s) {
      const std::vector<int64_t> order = order_of_pruning<Format>(weights, segments[s], segments[s + 1]);
      for (size_t i = static_cast<size_t>(k[m][s]); i < order.size(); ++i)
        expected[m * stride + order[i] / 8] |= static_cast<uint8_t>(1 << order[i] % 8);
    }
  }
  std::vector<uint64_t> scratch(static_cast<size_t>(grid_scratch_words(p)));
  std::vector<int64_t> order(2 * kMasks);
  constexpr auto kernel = sizeof(Word) == 2   ? &MagnitudeKernels::grid16
                          : sizeof(Word) == 4 ? &MagnitudeKernels::grid32
                                              : &MagnitudeKernels::grid64;
  (variant.table->*kernel)({weights.data(), packed.data(), segments, &k[0][0], kMasks, stride, 2, 2, Format::infinity,
                            order.data(), scratch.data()});
  expect(packed == expected, "grid", variant.name, p);
}

template <class Format>
void check_size(const Variant<MagnitudeKernels>& variant, int64_t p, std::mt19937& random) {
  for (int kind = 0; kind < kKinds; ++kind) {
    const auto check = [&](int64_t split, int64_t k0, int64_t k1) {
      check_row<Format>(variant, static_cast<Kind>(kind), p, split, k0, k1, random);
    };
    check(0, 0, 0);
    check(0, 0, p);
    check(p, p / 2, 0);
    check(p, p * 4 / 5, 0);
    const int64_t split = random() % (p + 1);
    check(split, random() % (split + 1), random() % (p - split + 1));
    check_grid<Format>(variant, static_cast<Kind>(kind), p, split, random);
  }
}

}  // namespace
}  // namespace zoosparse::test

int main() {
  using namespace zoosparse::test;
  std::mt19937 random(1);
  std::vector<int64_t> sizes(140);
  std::iota(sizes.begin(), sizes.end(), 0);
  for (const int64_t size : {255, 256, 257, 511, 1000, 2464, 5003, 20000}) sizes.push_back(size);
  for (const auto& variant : variants()) {
    for (const int64_t size : sizes) {
      check_size<Float32>(variant, size, random);
      check_size<Float64>(variant, size, random);
      check_size<BFloat16>(variant, size, random);
    }
    for (const Kind kind : {trained, mostly_zeros})  // more keys than 16 bits count
      check_grid<Float32>(variant, kind, 70000, 3000, random);
  }
  return failures != 0;
}
