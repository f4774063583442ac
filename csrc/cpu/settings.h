// What Python sets and asks of the engine of the CPU, besides its instruction set (simd/level.h).
#pragma once

#include <cstdint>

namespace zoosparse::cpu {

// What the choice between dense and sparse reckons with from now on; see InferCosts. Both are positive.
void set_infer_costs(double on_planes, double on_one_position);

// Spends `count` multiply-adds on all threads, in registers: the roof that benchmarks measure against.
void multiply_adds(int64_t count);

}  // namespace zoosparse::cpu
