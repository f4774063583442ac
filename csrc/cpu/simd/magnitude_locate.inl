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

// A bucket of a row's columns, how many keys are below it, and the columns in it, rising.
struct Members {
  const int16_t* buckets;
  int bucket;
  int64_t below;
  const int32_t *first, *last;
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
        buckets_[count_] = find(histogram.counts, block * kBlock, below, first, last);
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
template <class Key, class Masks>
void select_each(const Part<Key>& part, const Rooms<Key>& rooms, const Masks& masks) {
  const auto& [run, before, low, high, first, last] = part;
  auto* const other = reinterpret_cast<Key*>(rooms.divisions[kDivisions - 1].columns);  // which nobody reads
  Located<Key> found{low, before, 0};
  for (const int64_t* rank = first; rank < last; ++rank) {
    if (*rank >= found.below + found.equals) {
      found = select(run, *rank - before, low, high, rooms.spare, other);
      found.below += before;
    }
    masks.by_key(rank, found);
  }
}

// The ranks of a part of at most kRankable keys.
template <class Key, class Masks>
void rank_each(const Part<Key>& part, const Masks& masks) {
  auto few = ranked(part.run);
  for (const int64_t* rank = part.first; rank < part.last; ++rank) {
    Located<Key> found = find(few, *rank - part.before);
    found.below += part.before;
    masks.by_key(rank, found);
  }
}

// Buckets from below the lowest to above the highest key of a small sample: where keys are few, each has its own.
template <class Key>
Scale<Key> scale_of_sample(Run<Key> run, Key infinity) {
  Key low = infinity, high = 0;
  bool others = false;
  for_sample(run, [&](Key key) {
    const bool ordinary = (key > 0) & (key < infinity);
    low = ordinary && key < low ? key : low, high = ordinary && key > high ? key : high;
    others |= !ordinary;
  });
  if (high == 0) low = high = 1;
  return {low - 1, high + 1, others, infinity};
}

// Writes `masks` for every rank of a part that comes of `division` divisions.
template <class Key, class Masks>
void locate(const Part<Key>& part, const Rooms<Key>& rooms, int division, const Masks& masks) {
  const auto& [run, before, low, high, first, last] = part;
  if (last - first <= kSelectable || division == kDivisions) return select_each(part, rooms, masks);
  if (run.count <= kRankable) return rank_each(part, masks);

  const auto [buckets, columns, keys] = rooms.divisions[division];
  const Scale<Key> scale = scale_of_sample(run, masks.infinity);
  scale.find(run, buckets);
  const Wanted wanted(Histogram(buckets, run.count), before, first, last);

  const auto inside = [&](const auto& bucket, int64_t begin) {
    const Key from = bucket.index == 0 ? low : scale.first_of(bucket.index);
    const Key to = bucket.index == scale.last_bucket() ? high : scale.first_of(bucket.index + 1);
    return Part<Key>{{keys + begin, bucket.count}, bucket.below, from, to, bucket.first, bucket.last};
  };
  const auto members = [&](const auto& bucket, int64_t begin) {
    const int32_t* const own = columns + begin;
    return Members{buckets, bucket.index, bucket.below, own, own + bucket.count};
  };
  const auto gather = [&](int64_t count) {
    for (int64_t i = 0; i < count; ++i) keys[i] = run.keys[columns[i]];
    Run<Key>{keys, count}.pad();
  };
  const int64_t crowd = std::max<int64_t>(kRankable, run.count / 32);

  // Bucket by bucket, a column takes its place after the one before it in its bucket.
  BucketSet few;
  int64_t in_few = 0, next[kBuckets];
  for (const auto& bucket : wanted)
    if (bucket.count <= crowd) few.add(bucket.index), next[bucket.index] = in_few, in_few += bucket.count;
  auto* const found = reinterpret_cast<int32_t*>(rooms.spare);
  few.filter(buckets, run.count, found);
  for (int64_t i = 0; i < in_few; ++i) columns[next[buckets[found[i]]]++] = found[i];
  gather(in_few);
  int64_t begin = 0;
  for (const auto& bucket : wanted) {
    if (bucket.count > crowd) continue;
    const Part<Key> own = inside(bucket, begin);
    if (bucket.count > kRankable) {
      locate(own, rooms, division + 1, masks);
    } else if (division > 0) {
      rank_each(own, masks);
    } else {
      const auto all = ranked(own.run);
      for (const int64_t* rank = bucket.first; rank < bucket.last; ++rank)
        masks.by_bucket(rank, members(bucket, begin), all.ranks);
    }
    begin += bucket.count;
  }

  // In crowded buckets that would be a wait, and their keys are often equal.
  for (const auto& bucket : wanted) {
    if (bucket.count <= crowd) continue;
    BucketSet({bucket.index}).filter(buckets, run.count, columns);
    const Part<Key> own = inside(bucket, 0);
    const bool one_key = own.high - own.low == 1;
    if (!one_key) gather(bucket.count);
    if (!one_key && !all_equal(own.run)) {
      locate(own, rooms, division + 1, masks);
      continue;
    }
    for (const int64_t* rank = bucket.first; rank < bucket.last; ++rank)
      if (division == 0)
        masks.by_bucket_of_equals(rank, members(bucket, 0));
      else
        masks.by_key(rank, {one_key ? own.low : *keys, bucket.below, bucket.count});
  }
}

}  // namespace
}  // namespace zoosparse::ZOOSPARSE_ISA
