// The keys of many ranks of a row at once.
//
// A histogram over buckets of neighbouring keys says in which bucket every wanted rank lies, and what is in no wanted
// bucket is left out: of the keys of trained weights, 4 % remain for nine ranks, few enough to be sorted by ranking
// them against each other. The buckets divide the range between a small sample's keys near the lowest and the highest
// rank, so they are as fine as the row asks for. Where more keys remain, each bucket is divided again, and where
// buckets divide badly, every rank is selected alone. (Distributive partitioning: Dobosiewicz, "Sorting by Distributive
// Partitioning", Information Processing Letters 7, 1978.)
#pragma once

#include <algorithm>

#include "cpu/simd/magnitude_histogram.inl"
#include "cpu/simd/magnitude_select.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

constexpr int kDivisions = 3;       // as many, and each rank is selected alone
constexpr int64_t kRankable = 192;  // as many keys, and ranking them is cheaper than anything else
constexpr int64_t kSelectable = 2;  // as many ranks, and each is selected alone

// Keys of a row that lie in [low, high), `before` others being below `low`, and the rising ranks that lie among them.
// The keys are followed by as much as Run::pad() writes that is not below `high`.
template <class Key>
struct Part {
  Run<Key> run;
  int64_t before;
  Key low, high;
  const int64_t *first, *last;
};

// Room for a padded run each.
template <class Key>
struct Rooms {
  Key *parts, *buckets, *wanted;
};

// At most kRankable keys, sorted by ranking each against every other.
template <class Key>
class Sorted {
 public:
  explicit Sorted(Run<Key> run) : count_(run.count) {
    constexpr int lanes = kLanes<Key>;
    constexpr Key tie = -1;
    Key places[kRankable + lanes];
    for (int64_t i = 0; i < count_; i += lanes) {
      const auto mine = load<Keys<Key>>(run.keys + i);
      Keys<Key> smaller{};
      for (int64_t j = 0; j < count_; ++j)
        smaller = increment<Key>(smaller, above<Key>(mine, Keys<Key>{} + run.keys[j]));
      store(places + i, smaller);
    }
    std::fill(keys_, keys_ + count_, tie);
    for (int64_t i = 0; i < count_; ++i) keys_[places[i]] = run.keys[i];  // equal keys have the same place
    for (int64_t i = 1; i < count_; ++i) keys_[i] = keys_[i] == tie ? keys_[i - 1] : keys_[i];
  }

  Located<Key> at(int64_t rank) const {
    int64_t first = rank, last = rank + 1;
    while (first > 0 && keys_[first - 1] == keys_[rank]) --first;
    while (last < count_ && keys_[last] == keys_[rank]) ++last;
    return {keys_[rank], first, last - first};
  }

 private:
  int64_t count_;
  Key keys_[kRankable];
};

// The buckets that hold a rank, rising.
class Wanted {
 public:
  struct Bucket {
    int index;
    int64_t below, count;         // keys of the row below it, and in it
    const int64_t *first, *last;  // its ranks
  };

  Wanted(const Histogram& histogram, int64_t below, const int64_t* first, const int64_t* last) {
    for (int block = 0; first < last; ++block) {
      const int64_t below_next = below + histogram.in_block[block];
      for (int index = block * kBlock; first < last && *first < below_next; ++index) {
        const int64_t count = histogram.counts[0][index];
        const int64_t* next = first;
        while (next < last && *next < below + count) ++next;
        if (next > first) {
          buckets_[count_++] = {index, below, count, first, next};
          set_.add(index);
          keys_ += count;
        }
        first = next, below += count;
      }
      below = below_next;
    }
  }

  const Bucket* begin() const { return buckets_; }
  const Bucket* end() const { return buckets_ + count_; }
  const BucketSet& set() const { return set_; }
  int64_t keys() const { return keys_; }

 private:
  Bucket buckets_[kBuckets];
  int count_ = 0;
  BucketSet set_;
  int64_t keys_ = 0;
};

// The ranks of a part, each on its own; those of equal keys together.
template <class Key, class Emit>
void select_each(const Part<Key>& part, const Rooms<Key>& rooms, const Emit& emit) {
  const auto& [run, before, low, high, first, last] = part;
  Located<Key> found{low, before, high - low == 1 ? run.count : 0};
  for (const int64_t* rank = first; rank < last; ++rank) {
    if (*rank >= found.below + found.equals) {
      found = select(run, *rank - before, low, high, rooms.buckets, rooms.wanted);
      found.below += before;
    }
    emit(rank, found);
  }
}

// The ranks [first, last) of sorted keys before which `before` keys of the row were left out.
template <class Key, class Emit>
void find_each(const Sorted<Key>& sorted, int64_t before, const int64_t* first, const int64_t* last, const Emit& emit) {
  for (const int64_t* rank = first; rank < last; ++rank) {
    auto found = sorted.at(*rank - before);
    found.below += before;
    emit(rank, found);
  }
}

// Calls emit(rank, Located) for every rank of the part, whose keys may lie in `rooms.parts` and are then overwritten.
template <class Key, class Emit>
void locate(const Part<Key>& part, const Rooms<Key>& rooms, int divisions, const Emit& emit) {
  const auto& [run, before, low, high, first, last] = part;
  if (last - first <= kSelectable || high - low == 1 || divisions == 0) return select_each(part, rooms, emit);
  if (run.count <= kRankable) return find_each(Sorted<Key>(run), before, first, last, emit);

  const auto sample = ranked_sample(run, kSample);
  const auto near = [&](int64_t rank, int64_t margin) {
    return sample.at(std::clamp((rank - before) * kSample / run.count + margin, int64_t{0}, int64_t{kSample - 1}));
  };
  const Scale<Key> scale(near(*first, -kMargin), near(last[-1], kMargin));
  auto* const buckets = reinterpret_cast<uint16_t*>(rooms.buckets);
  const Wanted wanted(Histogram(run, scale, buckets), before, first, last);
  wanted.set().filter(run, buckets, rooms.wanted);

  if (wanted.keys() <= kRankable) {
    const Sorted<Key> sorted(Run<Key>{rooms.wanted, wanted.keys()});
    int64_t place = 0;
    for (const auto& bucket : wanted) {
      find_each(sorted, bucket.below - place, bucket.first, bucket.last, emit);
      place += bucket.count;
    }
    return;
  }

  // The keys of the wanted buckets, bucket by bucket, up to the end of where the part may lie.
  Key* ends[kBuckets];
  Key* end = rooms.parts + run.count - wanted.keys();
  for (const auto& bucket : wanted) ends[bucket.index] = end, end += bucket.count;
  for (int64_t i = 0; i < wanted.keys(); ++i) *ends[scale.bucket(rooms.wanted[i])]++ = rooms.wanted[i];
  if (divisions == kDivisions) Run<Key>{rooms.parts, run.count}.pad();
  for (const auto& bucket : wanted) {
    const Key from = bucket.index == 0 ? low : scale.first_of(bucket.index);
    const Key to = bucket.index == scale.last_bucket() ? high : scale.first_of(bucket.index + 1);
    Key* const start = ends[bucket.index] - bucket.count;
    locate(Part<Key>{{start, bucket.count}, bucket.below, from, to, bucket.first, bucket.last},
           Rooms<Key>{start, rooms.buckets, rooms.wanted}, divisions - 1, emit);
  }
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
