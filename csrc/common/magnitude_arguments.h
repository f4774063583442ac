// The arguments of the selection by magnitude, checked and settled for the kernels of any device.
#pragma once

#include <vector>

#include "common/tensor.h"

namespace zoosparse {

// weights [N, P]; k [N, S] int64, or [K, N, S] for many masks; segments [S + 1] rising offsets of columns, from 0 to P.
class SelectArguments {
 public:
  // Checks everything but the counts in `k`, which may lie on a device where looking would wait for all work there.
  // `dimensions` of k: 2, or 3 for many masks.
  SelectArguments(const char* op, const Tensor& weights, const Tensor& k, Ints segments, int64_t dimensions = 2);

  // Every count lies between 0 and the width of its segment; on the CPU.
  void check_counts() const;

  const char* op() const { return op_; }
  Place place() const { return place_of(weights_); }
  int64_t models() const { return weights_.size(0); }
  int64_t parameters() const { return weights_.size(1); }
  int64_t segment_count() const { return static_cast<int64_t>(segments_.size()) - 1; }
  int64_t masks() const { return k_.size(0); }  // of three dimensions

  int word_size() const { return word_size_; }    // bytes of a weight: 2, 4 or 8
  int64_t infinity() const { return infinity_; }  // its bits in the type of the weights
  const Tensor& rows() const { return rows_; }    // the weights, contiguous: a copy of a strided view
  const int64_t* k() const { return read<int64_t>(k_); }
  const int64_t* segments() const { return segments_.data(); }

  Tensor empty_thresholds() const;    // as k and the weights
  Tensor empty_mask() const;          // bool [N, P]
  Tensor empty_packed_masks() const;  // uint8 [K, N, ceil(P / 8)]

  // Puts pruned rows back, where they are a copy.
  void write_back() const;

 private:
  const char* op_;
  Tensor weights_, rows_, k_;
  Ints segments_;
  int word_size_;
  int64_t infinity_;
};

}  // namespace zoosparse
