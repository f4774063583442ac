// A plan as one block of bytes, for memory where the pointers of the planner mean nothing.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/infer_plan.h"

namespace zoosparse {

inline int64_t bytes_of_plan(const InferPlan& plan) {
  int64_t bytes = plan.count * static_cast<int64_t>(sizeof(InferStage));
  for (int32_t s = 0; s < plan.count; ++s)
    bytes += (plan.stages[s].out.width + int64_t{plan.stages[s].taps}) * static_cast<int64_t>(sizeof(int32_t));
  return bytes;
}

// Writes the stages, then their tables, to `to` [bytes_of_plan]; the plan that holds when these bytes lie at `there`.
inline InferPlan copy_plan(const InferPlan& plan, char* to, const char* there) {
  int64_t next = plan.count * static_cast<int64_t>(sizeof(InferStage));
  const auto copy_table = [&](const int32_t* table, int64_t size) {
    const int64_t place = next, bytes = size * static_cast<int64_t>(sizeof(int32_t));
    if (bytes > 0) std::memcpy(to + place, table, static_cast<size_t>(bytes));
    next += bytes;
    return reinterpret_cast<const int32_t*>(there + place);
  };
  for (int32_t s = 0; s < plan.count; ++s) {
    InferStage stage = plan.stages[s];
    stage.out_column = copy_table(stage.out_column, stage.out.width);
    stage.tap_offset = copy_table(stage.tap_offset, stage.taps);
    std::memcpy(to + s * sizeof(InferStage), &stage, sizeof(InferStage));
  }
  InferPlan copy = plan;
  copy.stages = reinterpret_cast<const InferStage*>(there);
  return copy;
}

}  // namespace zoosparse
