// Mask kernels on a device against plain loops, with sizes around those of words, warps and blocks.
#include <cstdint>
#include <random>
#include <vector>

#include "cuda/masks.h"
#include "tests/any_bool.h"
#include "tests/device.h"
#include "tests/expect.h"

namespace zoosparse::test {
namespace {

constexpr cudaStream_t kStream = nullptr;

template <class Word>
void check_apply(const std::vector<uint8_t>& mask, const std::vector<uint8_t>& packed, int64_t n, int64_t p,
                 std::mt19937& random) {
  std::vector<Word> expected(mask.size());
  for (Word& word : expected) word = static_cast<Word>(random() * 0x100000001u);
  const OnDevice by_bools(expected), by_bits(expected);
  const OnDevice bools(mask), bits(packed);
  for (size_t i = 0; i < mask.size(); ++i)
    if (mask[i] == 0) expected[i] = 0;
  cuda::launch_apply_mask(by_bools.get(), sizeof(Word), bools.get(), n, p, kStream);
  cuda::launch_apply_packed_mask(by_bits.get(), sizeof(Word), bits.get(), n, p, kStream);
  expect(by_bools.read() == expected, "apply", "cuda", p);
  expect(by_bits.read() == expected, "apply_packed", "cuda", p);
}

void check_size(int64_t n, int64_t p, std::mt19937& random) {
  std::vector<uint8_t> mask(n * p), ones(n * p);  // any byte but 0 is True
  for (size_t i = 0; i < mask.size(); ++i) {
    mask[i] = any_bool(random());
    ones[i] = mask[i] != 0;
  }
  const int64_t bytes = (p + 7) / 8;
  std::vector<uint8_t> expected(n * bytes);
  for (int64_t row = 0; row < n; ++row)
    for (int64_t column = 0; column < p; ++column)
      expected[row * bytes + column / 8] |= ones[row * p + column] << (column % 8);

  const OnDevice bools(mask), packed(std::vector<uint8_t>(n * bytes, 0xa5)),
      unpacked(std::vector<uint8_t>(n * p, 0xa5));
  cuda::launch_pack_mask(bools.get(), n, p, packed.get(), kStream);
  expect(packed.read() == expected, "pack", "cuda", p);
  cuda::launch_unpack_mask(packed.get(), n, p, unpacked.get(), kStream);
  expect(unpacked.read() == ones, "unpack", "cuda", p);
  check_apply<uint8_t>(mask, expected, n, p, random);
  check_apply<uint16_t>(mask, expected, n, p, random);
  check_apply<uint32_t>(mask, expected, n, p, random);
  check_apply<uint64_t>(mask, expected, n, p, random);
}

}  // namespace
}  // namespace zoosparse::test

// With an argument, little enough for compute-sanitizer.
int main(int argc, char**) {
  using namespace zoosparse::test;
  if (!has_device()) return kSkipped;
  std::mt19937 random(1);
  if (argc > 1) {
    for (const int64_t p : {9, 64, 1001}) check_size(9, p, random);
    return failures != 0;
  }
  for (const int64_t n : {0, 1, 3, 9, 70})
    for (const int64_t p : {0, 1, 7, 8, 9, 31, 33, 64, 129, 1000, 1024, 2464, 5003}) check_size(n, p, random);
  return failures != 0;
}
