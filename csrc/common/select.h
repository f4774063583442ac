// Exact selection by magnitude, as far as one thread is concerned: what CUDA's kernels and the tests on the CPU share.
//
// The order of a row is that of (key, column), keys being the bits of |w| with every NaN replaced by infinity + 1. The
// element of a given rank is found from its most significant digits down: of the elements that agree in all digits
// known so far, a histogram of the next digit says in which bin the wanted one lies. Columns are searched like further
// digits of the key, and only where some ties of the threshold are pruned and others kept.
// (Radix select: Alabi, Blanchard, Gordon, Steinbach, "Fast k-Selection Algorithms for Graphics Processing Units", ACM
// Journal of Experimental Algorithmics 17, 2012.)
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace zoosparse {

// Key of a weight, from the bits of its storage format and the bits of infinity there.
template <class Key, class Word>
ZOOSPARSE_HOST_DEVICE static inline Key magnitude_key(Word weight, Key infinity) {
  constexpr Word magnitude = static_cast<Word>(~Word(0)) >> 1;  // all but the sign
  const Key key = static_cast<Key>(weight & magnitude), nan = infinity + 1;
  return key < nan ? key : nan;
}

// The weight whose magnitude has this key, as a quiet NaN if it is one.
template <class Word, class Key>
ZOOSPARSE_HOST_DEVICE static inline Word weight_of_key(Key key, Key infinity) {
  const Key quiet = (infinity & (Key(0) - infinity)) >> 1;
  return static_cast<Word>(key > infinity ? infinity | quiet : key);
}

// The threshold where nothing is pruned.
template <class Word, class Key>
ZOOSPARSE_HOST_DEVICE static inline Word minus_infinity(Key infinity) {
  constexpr Word sign = static_cast<Word>(Word(1) << (8 * sizeof(Word) - 1));
  return static_cast<Word>(static_cast<Word>(infinity) | sign);
}

// Bits of the keys of a storage format.
template <class Word>
constexpr int kKeyBits = 8 * sizeof(Word) - 1;

// At most 11 bits, so that a digit's histogram takes 8 KB, and the first digit of a float32 is the exponent with three
// bits of the mantissa: trained weights crowd a few exponents.
constexpr int kMostDigitBits = 11;
constexpr int kMostBins = 1 << kMostDigitBits;

struct Digit {
  int shift, bits;
  ZOOSPARSE_HOST_DEVICE constexpr int bins() const { return 1 << bits; }
};

ZOOSPARSE_HOST_DEVICE constexpr int digits_of(int bits) { return (bits + kMostDigitBits - 1) / kMostDigitBits; }

// Digit `index`, 0 the most significant, of numbers of so many bits.
ZOOSPARSE_HOST_DEVICE constexpr Digit digit_of(int bits, int index) {
  const int count = digits_of(bits), shift = bits * (count - 1 - index) / count;
  return {shift, bits * (count - index) / count - shift};
}

// Where a search stands: the wanted element is that of rank `rank` (0 = smallest) of the `matching` ones whose leading
// digits are `prefix`.
template <class Value>
struct Search {
  Value prefix;
  uint32_t rank, matching;

  ZOOSPARSE_HOST_DEVICE bool matches(Value value, Digit next) const {
    return value >> (next.shift + next.bits) == prefix;
  }
};

template <class Value>
ZOOSPARSE_HOST_DEVICE static inline uint32_t bin_of(Value value, Digit digit) {
  return static_cast<uint32_t>(value >> digit.shift) & static_cast<uint32_t>(digit.bins() - 1);
}

ZOOSPARSE_HOST_DEVICE static inline uint32_t sum_of_bins(const uint32_t* bins, int first, int last) {
  uint32_t sum = 0;
  for (int bin = first; bin < last; ++bin) sum += bins[bin];
  return sum;
}

// Whether the wanted element lies in the bins [first, last), `before` elements being in the bins before them; then
// `search` goes on from the digit.
template <class Value>
ZOOSPARSE_HOST_DEVICE static inline bool choose_digit(const uint32_t* bins, int first, int last, uint32_t before,
                                                      Digit digit, Search<Value>& search) {
  for (int bin = first; bin < last; ++bin) {
    if (search.rank - before < bins[bin]) {  // unsigned: false where rank < before
      search = {static_cast<Value>(search.prefix << digit.bits | static_cast<Value>(bin)), search.rank - before,
                bins[bin]};
      return true;
    }
    before += bins[bin];
  }
  return false;
}

// One step of a search by single bits, from the most significant down: `found` becomes the largest value that has at
// most `rank` values below it. `below` counts the values below trial(found, bit).
template <class Value>
ZOOSPARSE_HOST_DEVICE static inline Value trial(Value found, int bit) {
  return found | Value(1) << bit;
}
template <class Value>
ZOOSPARSE_HOST_DEVICE static inline Value choose_bit(Value found, int bit, uint32_t below, uint32_t rank) {
  return below <= rank ? trial(found, bit) : found;
}

// How many of the columns thread, thread + threads, thread + 2 threads, … are below the limit.
ZOOSPARSE_HOST_DEVICE static inline uint32_t columns_below(uint32_t limit, uint32_t thread, uint32_t threads) {
  return limit > thread ? (limit - thread + threads - 1) / threads : 0;
}

// The last element that is pruned.
template <class Key>
struct Threshold {
  Key key;
  uint32_t column;

  ZOOSPARSE_HOST_DEVICE bool prunes(Key other, uint32_t at) const {
    return other < key || (other == key && at <= column);
  }
};
constexpr uint32_t kAllColumns = ~uint32_t{0};  // every tie of the threshold is pruned

// Whether of `ties` elements with the threshold's key, the last to go being that of rank `rank`, any is kept.
ZOOSPARSE_HOST_DEVICE static inline bool some_ties_stay(uint32_t rank, uint32_t ties) { return rank + 1 < ties; }

}  // namespace zoosparse
