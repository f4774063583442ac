// The keys of many ranks of a row at once.
//
// A histogram over buckets of neighbouring keys says in which bucket every wanted rank lies. The columns of those
// buckets are written down, bucket by bucket (of trained weights, 3 % of them for nine ranks), and the keys of a bucket
// are ranked against each other. The buckets divide the range of a small sample. A bucket of many keys is divided once
// more, and where buckets divide badly, every rank is selected alone. (Distributive partitioning: Dobosiewicz, "Sorting
// by Distributive Partitioning", Information Processing Letters 7, 1978.)
#pragma once

#include <algorithm>

#include "cpu/simd/magnitude_histogram.inl"
#include "cpu/simd/magnitude_select.inl"

namespace zoosparse::ZOOSPARSE_ISA {
namespace {

constexpr int kDivisions = 2;       // as many, and each rank is selected alone
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

// A bucket of a row's columns, and the columns in it, rising; none where keys were divided further.
struct Members {
  const int16_t* buckets = nullptr;
  int bucket = 0;
  const int32_t *first = nullptr, *last = nullptr;
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
      while (first < last && *first < below_next) {
        buckets_[count_] = find(histogram.counts[0], block * kBlock, below, first, last);
        first = buckets_[count_++].last;
      }
      below = below_next;
    }
  }

  const Bucket* begin() const { return buckets_; }
  const Bucket* end() const { return buckets_ + count_; }

 private:
  // The bucket of the first rank, which is in the block from `index` on; without a branch, it would be guessed wrong.
  static Bucket find(const uint32_t* counts, int index, int64_t below, const int64_t* first, const int64_t* last) {
    int64_t sum = below;
    const uint32_t* const block = counts + index;
    for (int b = 0; b < kBlock; ++b) {
      sum += block[b];
      const bool passed = sum <= *first;
      index += passed;
      below = passed ? sum : below;
    }
    const int64_t* next = first + 1;
    while (next < last && *next < below + counts[index]) ++next;
    return {index, below, counts[index], first, next};
  }

  Bucket buckets_[kBuckets];
  int count_ = 0;
};

// Room for a padded run each.
template <class Key>
struct Rooms {
  struct Division {
    int16_t* buckets;
    int32_t* columns;
    Key* keys;
  };
  Division divisions[kDivisions];
  Key* spare;

  // Of `room` keys each in `scratch`, six in all.
  Rooms(Key* scratch, int64_t room) : spare(scratch) {
    auto* buckets = reinterpret_cast<int16_t*>(scratch + room);
    Key* next = scratch + 2 * room;
    for (auto& division : divisions) {
      division = {buckets, reinterpret_cast<int32_t*>(next), next + room};
      buckets += room, next += 2 * room;
    }
  }
};

// The ranks of a part, each on its own; those of equal keys together.
template <class Key, class Emit>
void select_each(const Part<Key>& part, const Rooms<Key>& rooms, const Emit& emit) {
  const auto& [run, before, low, high, first, last] = part;
  auto* const other = reinterpret_cast<Key*>(rooms.divisions[kDivisions - 1].columns);  // which nobody reads
  Located<Key> found{low, before, 0};
  for (const int64_t* rank = first; rank < last; ++rank) {
    if (*rank >= found.below + found.equals) {
      found = select(run, *rank - before, low, high, rooms.spare, other);
      found.below += before;
    }
    emit(rank, found, Members{});
  }
}

// The ranks of a part of at most kRankable keys.
template <class Key, class Emit>
void rank_each(const Part<Key>& part, const Members& members, const Emit& emit) {
  auto few = ranked(part.run);
  for (const int64_t* rank = part.first; rank < part.last; ++rank) {
    Located<Key> found = find(few, *rank - part.before);
    found.below += part.before;
    emit(rank, found, members);
  }
}

// Buckets from below the lowest to above the highest key of a small sample: where keys are few, each has its own.
template <class Key>
Scale<Key> scale_of_sample(Run<Key> run) {
  Key low = run.keys[0], high = low;
  for_sample(run, [&](Key key) { low = key < low ? key : low, high = key > high ? key : high; });
  return {low - 1, high + 1};
}

// Calls emit(rank, Located, Members) for every rank of a part that comes of `division` divisions.
template <class Key, class Emit>
void locate(const Part<Key>& part, const Rooms<Key>& rooms, int division, const Emit& emit) {
  const auto& [run, before, low, high, first, last] = part;
  if (last - first <= kSelectable || division == kDivisions) return select_each(part, rooms, emit);
  if (run.count <= kRankable) return rank_each(part, Members{}, emit);

  const auto [buckets, columns, keys] = rooms.divisions[division];
  const Scale<Key> scale = scale_of_sample(run);
  find_buckets(run, scale, buckets);
  const Wanted wanted(Histogram(buckets, run.count), before, first, last);

  // Columns, bucket by bucket. Each takes its place after the one before it in its bucket, and where buckets are
  // crowded that is a wait: a pass for each of those is quicker.
  const int64_t crowd = std::max<int64_t>(kRankable, run.count / 32);
  BucketSet few;
  int64_t in_few = 0, next[kBuckets], place = 0;
  for (const auto& bucket : wanted) {
    if (bucket.count > crowd)
      BucketSet({bucket.index}).filter(buckets, run.count, columns + place);
    else
      few.add(bucket.index), in_few += bucket.count, next[bucket.index] = place;
    place += bucket.count;
  }
  auto* const found = reinterpret_cast<int32_t*>(rooms.spare);
  few.filter(buckets, run.count, found);
  for (int64_t i = 0; i < in_few; ++i) columns[next[buckets[found[i]]]++] = found[i];
  for (int64_t i = 0; i < place; ++i) keys[i] = run.keys[columns[i]];
  Run<Key>{keys, place}.pad();

  int64_t start = 0;
  for (const auto& bucket : wanted) {
    const Key from = bucket.index == 0 ? low : scale.first_of(bucket.index);
    const Key to = bucket.index == scale.last_bucket() ? high : scale.first_of(bucket.index + 1);
    const Part<Key> inside{{keys + start, bucket.count}, bucket.below, from, to, bucket.first, bucket.last};
    const int32_t* const own = columns + start;
    start += bucket.count;
    const Members members = division == 0 ? Members{buckets, bucket.index, own, columns + start} : Members{};
    if (bucket.count <= kRankable)
      rank_each(inside, members, emit);
    else if (all_equal(inside.run))
      for (const int64_t* rank = bucket.first; rank < bucket.last; ++rank)
        emit(rank, {*inside.run.keys, bucket.below, bucket.count}, members);
    else
      locate(inside, rooms, division + 1, emit);
  }
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
