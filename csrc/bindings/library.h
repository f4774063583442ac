// What libzoosparse exports: plain C, so that any Python's module can call it. The state, the instruction set in use
// and the costs of inference, is the library's own and exists once.
//
// Functions that can fail return null, or what went wrong: the thread's until its next call.
#pragma once

#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif
#define ZOOSPARSE_EXPORT __attribute__((visibility("default")))

// Registers the kernels with torch, once; torch is loaded, and the schemas are defined.
ZOOSPARSE_EXPORT const char* zoosparse_register_operators(void);

// A line for each operator: its name and its signature, as "apply_mask_ TT-" or "infer TTTTTTTii-TTT": T tensor, L list
// of integers, i integer, d double, b bool. Null where torch fails to make an empty tensor.
ZOOSPARSE_EXPORT const char* zoosparse_signatures(void);

// Lines "key=value": what the library was built with.
ZOOSPARSE_EXPORT const char* zoosparse_build_info(void);

// `name` becomes the instruction set in use.
ZOOSPARSE_EXPORT const char* zoosparse_simd_level(const char** name);
ZOOSPARSE_EXPORT const char* zoosparse_set_simd_level(const char* name);
ZOOSPARSE_EXPORT const char* zoosparse_available_simd_levels(
    void);  // "baseline,avx2": what this CPU can run, best last

// See cpu/settings.h.
ZOOSPARSE_EXPORT const char* zoosparse_set_infer_costs(double on_planes, double on_one_position);
ZOOSPARSE_EXPORT const char* zoosparse_multiply_adds(int64_t count);

#if defined(__cplusplus)
}
#endif
