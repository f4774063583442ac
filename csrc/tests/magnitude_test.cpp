#include "cpu/simd/magnitude.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "tests/variants.h"

ZOOSPARSE_VARIANTS(MagnitudeKernels, magnitude_kernels)

namespace zoosparse::test {
namespace {

constexpr uint8_t kGuard = 0xa5;  // one element beyond the end that nobody may touch

enum Kind { normal, crowded, equal, one_differs, few_values, denormals, specials, kKinds };

std::vector<double> draw(Kind kind, int64_t p, std::mt19937& random) {
  std::normal_distribution<double> gauss;
  std::vector<double> values(p);
  for (double& value : values) switch (kind) {
      case normal:
        value = gauss(random);
        break;
      case crowded:
        value = (random() % 2 ? 1 : -1) * (0.25 + 1e-4 * gauss(random));
        break;
      case equal:
      case one_differs:
        value = random() % 2 ? 0.3 : -0.3;
        break;
      case few_values:
        value = static_cast<int>(random() % 7) - 3;
        break;
      case denormals:
        value = 1e-40 * gauss(random);
        break;
      default: {
        const double choices[] = {0.0,
                                  -0.0,
                                  gauss(random),
                                  std::numeric_limits<double>::infinity(),
                                  -std::numeric_limits<double>::infinity(),
                                  std::numeric_limits<double>::quiet_NaN(),
                                  -std::numeric_limits<double>::quiet_NaN()};
        value = choices[random() % 7];
      }
    }
  if (kind == one_differs && p > 0) values[random() % p] = 0.7;
  return values;
}

// How a storage format is called and made from a double.
struct Float32 {
  using Word = uint32_t;
  static constexpr auto kernel = &MagnitudeKernels::select32;
  static constexpr int64_t infinity = 0x7f800000;
  static Word bits(double value) {
    const auto narrow = static_cast<float>(value);
    Word word;
    std::memcpy(&word, &narrow, sizeof word);
    return word;
  }
};
struct Float64 {
  using Word = uint64_t;
  static constexpr auto kernel = &MagnitudeKernels::select64;
  static constexpr int64_t infinity = 0x7ff0000000000000;
  static Word bits(double value) {
    Word word;
    std::memcpy(&word, &value, sizeof word);
    return word;
  }
};
struct BFloat16 {
  using Word = uint16_t;
  static constexpr auto kernel = &MagnitudeKernels::select16;
  static constexpr int64_t infinity = 0x7f80;
  static Word bits(double value) { return static_cast<Word>(Float32::bits(value) >> 16); }
};

template <class Format>
uint64_t key_of(typename Format::Word word) {
  const auto magnitude = static_cast<uint64_t>(word) << 1 >> 1 & (~uint64_t{0} >> (65 - 8 * sizeof(word)));
  return std::min<uint64_t>(magnitude, Format::infinity + 1);
}

template <class Format>
void check_row(const Variant<MagnitudeKernels>& variant, Kind kind, int64_t p, int64_t split, int64_t k0, int64_t k1,
               std::mt19937& random) {
  using Word = typename Format::Word;
  std::vector<Word> weights(p + 1, Word{kGuard});
  const auto values = draw(kind, p, random);
  std::transform(values.begin(), values.end(), weights.begin(), Format::bits);

  const int64_t segments[] = {0, split, p}, k[] = {k0, k1};
  std::vector<uint8_t> expected_mask(p + 1, 1);
  expected_mask[p] = kGuard;
  std::vector<Word> expected = weights, thresholds(2);
  for (int s = 0; s < 2; ++s) {
    std::vector<int64_t> order(segments[s + 1] - segments[s]);
    std::iota(order.begin(), order.end(), segments[s]);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return key_of<Format>(weights[a]) < key_of<Format>(weights[b]); });
    for (int64_t i = 0; i < k[s]; ++i) expected_mask[order[i]] = 0, expected[order[i]] = 0;
    if (k[s] > 0) thresholds[s] = static_cast<Word>(key_of<Format>(weights[order[k[s] - 1]]));
  }

  std::vector<uint8_t> mask(p + 1, kGuard);
  std::vector<Word> found(2);
  std::vector<uint64_t> scratch(select_scratch_words(p));
  auto row =
      SelectRow{weights.data(), mask.data(), found.data(), segments, k, 2, Format::infinity, true, scratch.data()};
  (variant.table->*Format::kernel)(row);
  expect(mask == expected_mask, "mask", variant.name, p);
  expect(weights == expected, "weights", variant.name, p);
  for (int s = 0; s < 2; ++s) {
    const bool is_nan = thresholds[s] > static_cast<uint64_t>(Format::infinity);
    if (k[s] > 0) expect(is_nan ? found[s] > thresholds[s] : found[s] == thresholds[s], "threshold", variant.name, p);
  }
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
  for (const auto& variant : variants())
    for (const int64_t size : sizes) {
      check_size<Float32>(variant, size, random);
      check_size<Float64>(variant, size, random);
      check_size<BFloat16>(variant, size, random);
    }
  return failures != 0;
}
