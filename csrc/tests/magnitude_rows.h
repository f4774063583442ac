// Rows that selection has reason to fear, in every storage format, and what selecting from them must give.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace zoosparse::test {

enum Kind {
  normal,
  trained,
  crowded,
  equal,
  one_differs,
  few_values,
  rounded,
  mostly_zeros,
  denormals,
  specials,
  kKinds
};

inline std::vector<double> draw(Kind kind, int64_t p, std::mt19937& random) {
  std::normal_distribution<double> gauss;
  std::vector<double> values(static_cast<size_t>(p));
  int64_t column = 0;
  for (double& value : values) {
    ++column;
    switch (kind) {
      case normal:
        value = gauss(random);
        break;
      case trained:  // layers of different scales, with heavy tails
        value = (column * 5 / (p + 1) * 0.1 + 0.03) * gauss(random) * std::exp(0.4 * gauss(random));
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
      case rounded:  // some magnitudes twice or several times
        value = std::round(300 * gauss(random)) / 300;
        break;
      case mostly_zeros:
        value = random() % 5 ? 0.0 : gauss(random);
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
  }
  if (kind == one_differs && p > 0) values[random() % p] = 0.7;
  return values;
}

// A storage format: its words, and how they are made of a double.
struct Float32 {
  using Word = uint32_t;
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
  static constexpr int64_t infinity = 0x7ff0000000000000;
  static Word bits(double value) {
    Word word;
    std::memcpy(&word, &value, sizeof word);
    return word;
  }
};
struct BFloat16 {
  using Word = uint16_t;
  static constexpr int64_t infinity = 0x7f80;
  static Word bits(double value) { return static_cast<Word>(Float32::bits(value) >> 16); }
};

template <class Format>
std::vector<typename Format::Word> draw_words(Kind kind, int64_t p, std::mt19937& random) {
  const auto values = draw(kind, p, random);
  std::vector<typename Format::Word> words(values.size());
  std::transform(values.begin(), values.end(), words.begin(), Format::bits);
  return words;
}

template <class Format>
uint64_t key_of(typename Format::Word word) {
  const auto magnitude = static_cast<uint64_t>(word) << 1 >> 1 & (~uint64_t{0} >> (65 - 8 * sizeof(word)));
  return std::min<uint64_t>(magnitude, Format::infinity + 1);
}

// The columns [first, last) in the order in which they are pruned.
template <class Format>
std::vector<int64_t> order_of_pruning(const std::vector<typename Format::Word>& words, int64_t first, int64_t last) {
  std::vector<int64_t> order(static_cast<size_t>(last - first));
  std::iota(order.begin(), order.end(), first);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return key_of<Format>(words[a]) < key_of<Format>(words[b]); });
  return order;
}

}  // namespace zoosparse::test
