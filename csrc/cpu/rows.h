// Rows in parallel. A row's result depends on that row alone, so it does not depend on the number of threads.
#pragma once

#include <algorithm>

#include "common/parallel.h"

namespace zoosparse::cpu {

// Elements below which a second thread costs more than it saves.
constexpr int64_t kGrain = 32768;

// work(first, last) for ranges of rows of an [n, p] matrix: for kernels that keep scratch memory across rows.
template <class Work>
void for_row_ranges(int64_t n, int64_t p, const Work& work) {
  parallel_for(0, n, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, p)), work);
}

template <class Work>
void for_each_row(int64_t n, int64_t p, const Work& work) {
  for_row_ranges(n, p, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) work(row);
  });
}

}  // namespace zoosparse::cpu
