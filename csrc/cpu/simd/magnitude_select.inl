// Selection of the key of a given rank, everything in the nearest caches.
//
// The k-th smallest key is found by sampling: two keys of a small sample bracket it and one pass keeps the keys between
// them (about a quarter), until they are few enough to be counted again and again; bisection over the values of keys
// then leaves so few that they are ranked against each other. A key that many weights share (zeros of an earlier
// pruning, quantised weights) becomes an end of the bracket and ends the search. Where a sample misleads, bisection
// takes over at once, one counting pass a bit at most, so that no row is slow.
// (Sampling: Floyd and Rivest, "Expected Time Bounds for Selection", Communications of the ACM, 1975.)
#pragma once

#include "cpu/simd/magnitude_keys.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

constexpr int kMargin = 8;            // ranks of the sample on either side: 2 to 2.5 standard deviations
constexpr int64_t kCountable = 1024;  // as many keys, and a counting pass is cheaper than a sample
constexpr int64_t kFew = 16;          // as many keys, and ranking them is cheaper than a counting pass

// A key, how many keys of the run are below it, and how many are equal to it.
template <class Key>
struct Located {
  Key key;
  int64_t below, equals;
};

// The wanted key is in [low, high), and how many keys of the run are below either end.
template <class Key>
struct Bracket {
  Key low, high;
  int64_t below_low, below_high;
};

// Copies the keys in [low, high) to `to`; how many are below `low`, and how many were copied.
struct Split {
  int64_t below, between;
};
template <class Key>
Split split(Run<Key> run, Key low, Key high, Key* to) {
  Tally<Key> under;
  int64_t between = 0;
  for (int64_t i = 0; i < run.count; i += kLanes<Key>) {
    const auto keys = load<Keys<Key>>(run.keys + i);
    const auto too_low = below<Key>(keys, low);
    under.add(too_low);
    between += append<Key>(to + between, keys, below<Key>(keys, high) & ~too_low);
  }
  return {under.sum(), between};
}

// The key of the given rank (0 = smallest) among a few.
template <class Key>
Located<Key> find(Ranked<Key>& few, int64_t rank) {
  const Key key = few.at(rank);
  const Run<Key> run{few.keys, few.count};
  const int64_t below = count_below(run, key);
  return {key, below, count_below(run, Key(key + 1)) - below};
}

// The key of the given rank (0 = smallest), by bisection until few keys are left. Overwrites room for a padded kFew.
template <class Key>
Located<Key> bisect(Run<Key> run, int64_t rank, Bracket<Key> in, Key* spare) {
  while (in.below_high - in.below_low > kFew && in.high - in.low > 1) {
    const Key middle = in.low + (in.high - in.low) / 2;
    const int64_t below = count_below(run, middle);
    if (below <= rank) {
      in.low = middle, in.below_low = below;
    } else {
      in.high = middle, in.below_high = below;
    }
  }
  if (in.high - in.low == 1) return {in.low, in.below_low, in.below_high - in.below_low};
  const Run<Key> few{spare, split(run, in.low, in.high, spare).between};
  auto ranked_few = ranked(few);
  Located<Key> key = find(ranked_few, rank - in.below_low);
  key.below += in.below_low;
  return key;
}

// The key of the given rank (0 = smallest) of a run whose keys are all in [low, high). Overwrites `spare` and `other`,
// each with room for the padded run.
template <class Key>
Located<Key> select(Run<Key> run, int64_t rank, Key low, Key high, Key* spare, Key* other) {
  int64_t before = 0;  // keys that were left out because they are below the run's
  const auto found = [&](Located<Key> key) { return Located<Key>{key.key, before + key.below, key.equals}; };
  for (bool stuck = false; run.count > kCountable && high - low > 1 && !stuck;) {
    const auto sample = ranked_sample(run);
    const int64_t middle = rank * kSample / run.count;
    const Key from = middle < kMargin ? low : Key(sample.at(middle - kMargin) + 1);
    const Key to = middle + kMargin >= kSample ? high : sample.at(middle + kMargin);

    const auto [below, between] = split(run, from, to, spare);
    if (rank < below) {  // equal to the lower end of the sample, or the sample misled
      const Key end = from - 1;
      const int64_t below_end = count_below(run, end);
      if (rank >= below_end) return found({end, below_end, below - below_end});
      return found(bisect(run, rank, {low, end, 0, below_end}, spare));
    }
    if (rank >= below + between) {
      const int64_t up_to_end = count_below(run, Key(to + 1));
      if (rank < up_to_end) return found({to, below + between, up_to_end - below - between});
      return found(bisect(run, rank, {Key(to + 1), high, up_to_end, run.count}, spare));
    }
    stuck = between > run.count / 2;
    rank -= below, before += below;
    run = {spare, between};
    run.pad();
    low = from, high = to;
    Key* const used = spare;
    spare = other, other = used;
  }
  return found(bisect(run, rank, {low, high, 0, run.count}, spare));
}

// Where the last of `quota` keys equal to `threshold` stands, plus one: ties before it are pruned, from it on kept.
template <class Key>
int64_t cut_of_ties(Run<Key> run, Key threshold, int64_t quota) {
  constexpr int vectors = 4;
  int64_t i = 0;
  for (; i + vectors * kLanes<Key> <= run.count; i += vectors * kLanes<Key>) {
    Tally<Key> ties;
    for (int v = 0; v < vectors; ++v) {
      const auto keys = load<Keys<Key>>(run.keys + i + v * kLanes<Key>);
      ties.add(below<Key>(keys, threshold + 1) & ~below<Key>(keys, threshold));
    }
    if (ties.sum() >= quota) break;
    quota -= ties.sum();
  }
  for (; i < run.count; ++i)
    if (run.keys[i] == threshold && --quota == 0) return i + 1;
  return run.count;
}

// Of the keys equal to the last one to go, those in columns below this one are pruned where `k` keys are.
template <class Key>
int64_t cut_of(Run<Key> run, int64_t k, Located<Key> last) {
  const int64_t ties = k - last.below;
  return ties == last.equals ? run.count : cut_of_ties(run, last.key, ties);
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
