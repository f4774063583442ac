// The per-thread steps of select.h, put together on the CPU as the CUDA kernels put them together: bit by bit as a
// warp, digit by digit as a block whose threads take turns between barriers, and pass by pass as over a long row.
#include "common/select.h"

#include <bit>
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

#include "tests/expect.h"
#include "tests/magnitude_rows.h"

namespace zoosparse::test {
namespace {

template <class Format>
using KeyOf = std::conditional_t<sizeof(typename Format::Word) == 8, uint64_t, uint32_t>;

// ---- A warp -------------------------------------------------------------------------------------------------------

constexpr uint32_t kLanes = 32;

// `below(lane, limit)`: how many of the lane's values are below it.
template <class Value, class Below>
Value find_bits(int bits, uint32_t rank, const Below& below) {
  Value found = 0;
  for (int bit = bits - 1; bit >= 0; --bit) {
    uint32_t sum = 0;
    for (uint32_t lane = 0; lane < kLanes; ++lane) sum += below(lane, trial(found, bit));
    found = choose_bit(found, bit, sum, rank);
  }
  return found;
}

// At most 1,024 keys, 32 a lane.
template <class Key>
Threshold<Key> select_as_warp(const std::vector<Key>& keys, int key_bits, uint32_t rank) {
  const auto keys_below = [&](uint32_t lane, Key limit) {
    uint32_t count = 0;
    for (size_t column = lane; column < keys.size(); column += kLanes) count += keys[column] < limit;
    return count;
  };
  const Key key = find_bits<Key>(key_bits, rank, keys_below);
  uint32_t tied[kLanes] = {}, ties = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    rank -= keys_below(lane, key);
    for (size_t column = lane; column < keys.size(); column += kLanes)
      tied[lane] |= static_cast<uint32_t>(keys[column] == key) << (column / kLanes);
    ties += static_cast<uint32_t>(std::popcount(tied[lane]));
  }
  if (!some_ties_stay(rank, ties)) return {key, kAllColumns};
  const auto ties_below = [&](uint32_t lane, uint32_t limit) {
    const uint32_t columns = columns_below(limit, lane, kLanes);
    return static_cast<uint32_t>(std::popcount(columns < 32 ? tied[lane] & ((1u << columns) - 1) : tied[lane]));
  };
  return {key, find_bits<uint32_t>(10, rank, ties_below)};
}

// ---- A block: between two barriers, every thread runs its part of a phase -----------------------------------------

struct Block {
  int threads;
  std::vector<uint32_t> bins = std::vector<uint32_t>(kMostBins);

  // `values` are those that are active; which thread counts them does not matter.
  template <class Value>
  Search<Value> next_digit(Search<Value> search, Digit digit, const std::vector<Value>& values) {
    bins.assign(kMostBins, 0);
    for (const Value value : values)
      if (search.matches(value, digit)) ++bins[bin_of(value, digit)];
    const int each = (digit.bins() + threads - 1) / threads;
    uint32_t before = 0;
    int winners = 0;
    Search<Value> next = search;
    for (int thread = 0; thread < threads; ++thread) {
      const int first = thread * each, last = std::min(first + each, digit.bins());
      Search<Value> mine = search;
      if (choose_digit(bins.data(), first, last, before, digit, mine)) {
        next = mine;
        ++winners;
      }
      before += sum_of_bins(bins.data(), first, last);
    }
    expect(winners == 1, "exactly one thread chooses", "block", threads);
    return next;
  }

  template <class Value>
  Search<Value> find(Search<Value> search, int bits, const std::vector<Value>& values) {
    for (int d = 0; d < digits_of(bits); ++d) search = next_digit(search, digit_of(bits, d), values);
    return search;
  }
};

template <class Key>
Threshold<Key> select_as_block(const std::vector<Key>& keys, int key_bits, int column_bits, int threads,
                               uint32_t rank) {
  Block block{threads};
  const Search<Key> by_key = block.find(Search<Key>{0, rank, 0}, key_bits, keys);
  if (!some_ties_stay(by_key.rank, by_key.matching)) return {by_key.prefix, kAllColumns};
  std::vector<uint32_t> columns;
  for (size_t column = 0; column < keys.size(); ++column)
    if (keys[column] == by_key.prefix) columns.push_back(static_cast<uint32_t>(column));
  const Search<uint32_t> start{0, by_key.rank, by_key.matching};
  return {by_key.prefix, block.find(start, column_bits, columns).prefix};
}

// ---- Against sorting ----------------------------------------------------------------------------------------------

template <class Format>
void check(const std::vector<typename Format::Word>& words, int64_t k) {
  using Key = KeyOf<Format>;
  constexpr int bits = kKeyBits<typename Format::Word>;
  const auto p = static_cast<int64_t>(words.size());
  const auto infinity = static_cast<Key>(Format::infinity);
  std::vector<Key> keys;
  for (const auto word : words) keys.push_back(magnitude_key<Key>(word, infinity));
  const std::vector<int64_t> order = order_of_pruning<Format>(words, 0, p);
  std::vector<bool> pruned(words.size());
  for (int64_t i = 0; i < k; ++i) pruned[order[i]] = true;

  const auto rank = static_cast<uint32_t>(k - 1);
  const auto agrees = [&](const Threshold<Key>& found, const char* what) {
    bool same = found.key == key_of<Format>(words[order[k - 1]]);
    for (int64_t i = 0; i < p; ++i) same &= found.prunes(keys[i], static_cast<uint32_t>(i)) == pruned[i];
    expect(same, what, "select", p);
  };
  if (p <= 1024) agrees(select_as_warp(keys, bits, rank), "as a warp");
  agrees(select_as_block(keys, bits, 14, 256, rank), "as a block of 256");
  agrees(select_as_block(keys, bits, 14, 1024, rank), "as a block of 1024");
  agrees(select_as_block(keys, bits, 31, 256, rank), "as passes over a long row");
}

template <class Format>
void check_kinds(int64_t p, std::mt19937& random) {
  for (int kind = 0; kind < kKinds; ++kind) {
    const auto words = draw_words<Format>(static_cast<Kind>(kind), p, random);
    for (const int64_t k : {int64_t{1}, p / 2, p * 4 / 5, p - 1, p, static_cast<int64_t>(random() % p)})
      if (k > 0) check<Format>(words, k);
  }
}

// The digits of a number are all of its bits, once.
void check_digits() {
  for (const int bits : {7, 14, 15, 31, 63}) {
    int next = bits;
    for (int d = 0; d < digits_of(bits); ++d) {
      const Digit digit = digit_of(bits, d);
      expect(digit.shift + digit.bits == next && digit.bits > 0 && digit.bits <= kMostDigitBits, "digits", "select",
             bits);
      next = digit.shift;
    }
    expect(next == 0, "last digit", "select", bits);
  }
}

void check_formats() {
  expect(minus_infinity<uint32_t>(uint32_t{0x7f800000}) == 0xff800000u, "-inf", "float32", 0);
  expect(minus_infinity<uint16_t>(uint32_t{0x7c00}) == 0xfc00u, "-inf", "float16", 0);
  expect(weight_of_key<uint32_t>(uint32_t{0x7f800001}, uint32_t{0x7f800000}) == 0x7fc00000u, "nan", "float32", 0);
  expect(weight_of_key<uint64_t>(uint64_t{0x7ff0000000000001}, uint64_t{0x7ff0000000000000}) == 0x7ff8000000000000u,
         "nan", "float64", 0);
  expect(weight_of_key<uint16_t>(uint32_t{0x7f81}, uint32_t{0x7f80}) == 0x7fc0u, "nan", "bfloat16", 0);
  expect(magnitude_key<uint32_t>(uint16_t{0xffff}, uint32_t{0x7c00}) == 0x7c01u, "key of nan", "float16", 0);
  expect(magnitude_key<uint32_t>(uint16_t{0x8000}, uint32_t{0x7c00}) == 0, "key of -0", "float16", 0);
}

}  // namespace
}  // namespace zoosparse::test

int main() {
  using namespace zoosparse::test;
  std::mt19937 random(1);
  check_digits();
  check_formats();
  for (const int64_t p : {1, 2, 3, 31, 32, 33, 127, 500, 1024, 2464, 5003}) {
    check_kinds<Float32>(p, random);
    check_kinds<Float64>(p, random);
    check_kinds<BFloat16>(p, random);
  }
  return failures != 0;
}
