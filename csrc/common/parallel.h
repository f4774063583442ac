// Loops on torch's threads, through its stable ABI.
#pragma once

#include <torch/csrc/stable/c/shim.h>

#include <atomic>
#include <cstdint>
#include <exception>

#include "common/tensor.h"

namespace zoosparse {

inline int64_t thread_count() {
  uint32_t count;
  ZOOSPARSE_SHIM(torch_get_num_threads(&count));
  return count;
}

// work(first, last) for ranges of at least `grain` from [begin, end), on several threads. What the first of them throws
// is thrown again; torch would only say that there was something.
template <class Work>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const Work& work) {
  struct Job {
    const Work& work;
    std::atomic<bool> failed{false};
    std::exception_ptr error{};
  } job{work};
  const auto run = [](int64_t first, int64_t last, void* context) {
    Job& job = *static_cast<Job*>(context);
    try {
      job.work(first, last);
    } catch (...) {
      if (!job.failed.exchange(true)) job.error = std::current_exception();
    }
  };
  ZOOSPARSE_SHIM(torch_parallel_for(begin, end, grain, run, &job));
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace zoosparse
