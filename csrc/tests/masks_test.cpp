#include "cpu/simd/masks.h"

#include <cstdint>
#include <random>
#include <vector>

#include "tests/any_bool.h"
#include "tests/variants.h"

ZOOSPARSE_VARIANTS(MaskKernels, mask_kernels)

namespace zoosparse::test {
namespace {

constexpr uint8_t kGuard = 0xa5;  // one element beyond the end that nobody may touch

template <class Word>
void check_apply(const Variant<MaskKernels>& variant, const std::vector<uint8_t>& mask,
                 const std::vector<uint8_t>& packed, std::mt19937& random) {
  const auto p = static_cast<int64_t>(mask.size());
  std::vector<Word> expected(p + 1);
  for (Word& word : expected) word = static_cast<Word>(random() * 0x100000001u);
  std::vector<Word> by_bools = expected, by_bits = expected;
  for (int64_t column = 0; column < p; ++column)
    if (mask[column] == 0) expected[column] = 0;
  variant.table->apply(by_bools.data(), sizeof(Word), mask.data(), p);
  variant.table->apply_packed(by_bits.data(), sizeof(Word), packed.data(), p);
  expect(by_bools == expected, "apply", variant.name, p);
  expect(by_bits == expected, "apply_packed", variant.name, p);
}

void check_size(const Variant<MaskKernels>& variant, int64_t p, std::mt19937& random) {
  std::vector<uint8_t> mask(p), ones(p);  // any byte but 0 is True
  for (int64_t column = 0; column < p; ++column) {
    mask[column] = any_bool(random());
    ones[column] = mask[column] != 0;
  }
  const int64_t bytes = (p + 7) / 8;
  std::vector<uint8_t> expected(bytes + 1, 0), packed(bytes + 1, kGuard), unpacked(p + 1, kGuard);
  for (int64_t column = 0; column < p; ++column) expected[column / 8] |= ones[column] << (column % 8);
  expected[bytes] = kGuard;

  variant.table->pack(mask.data(), p, packed.data());
  expect(packed == expected, "pack", variant.name, p);
  variant.table->unpack(packed.data(), p, unpacked.data());
  expect(unpacked[p] == kGuard, "unpack wrote beyond the row", variant.name, p);
  unpacked.pop_back();
  expect(unpacked == ones, "unpack", variant.name, p);

  check_apply<uint8_t>(variant, mask, packed, random);
  check_apply<uint16_t>(variant, mask, packed, random);
  check_apply<uint32_t>(variant, mask, packed, random);
  check_apply<uint64_t>(variant, mask, packed, random);
}

}  // namespace
}  // namespace zoosparse::test

int main() {
  using namespace zoosparse::test;
  std::mt19937 random(1);
  for (const auto& variant : variants())
    for (int64_t p = 0; p < 150; ++p) check_size(variant, p, random);
  return failures != 0;
}
