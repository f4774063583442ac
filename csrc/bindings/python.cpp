// The only pybind11 file: what was built, and which instruction set runs. Operators are in library.cpp.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "build_info.h"
#include "cpu/simd/level.h"

namespace zoosparse {
void register_operators();
namespace cpu {
void set_infer_costs(double on_planes, double on_one_position);
void multiply_adds(int64_t count);
}  // namespace cpu
}  // namespace zoosparse

namespace {

pybind11::dict build_info() {
  pybind11::dict flags;
  flags["baseline"] = ZOOSPARSE_FLAGS_BASELINE;
#if defined(__x86_64__)
  flags["avx2"] = ZOOSPARSE_FLAGS_AVX2;
  flags["avx512"] = ZOOSPARSE_FLAGS_AVX512;
#endif
  pybind11::dict info;
  info["torch"] = ZOOSPARSE_TORCH_VERSION;
  info["compiler"] = ZOOSPARSE_COMPILER;
  info["build_type"] = ZOOSPARSE_BUILD_TYPE;
  info["flags"] = flags;
#if defined(ZOOSPARSE_WITH_CUDA)
  info["cuda"] = true;
  info["cuda_compiler"] = ZOOSPARSE_CUDA_COMPILER;
  info["cuda_architectures"] = ZOOSPARSE_CUDA_ARCHITECTURES;
#else
  info["cuda"] = false;
  info["why_no_cuda"] = ZOOSPARSE_WHY_NO_CUDA;
#endif
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native kernels of zoosparse_ext; import torch first.";
  m.def("build_info", &build_info, "Compiler, flags per instruction set, torch version, CUDA or not.");
  m.def("register_operators", &zoosparse::register_operators, "Registers the CPU kernels with torch, once.");
  m.def("multiply_adds", &zoosparse::cpu::multiply_adds,
        "Spends that many multiply-adds on all threads, in registers: the roof of benchmarks.");
  m.def("set_infer_costs", &zoosparse::cpu::set_infer_costs, pybind11::arg("on_planes"),
        pybind11::arg("on_one_position"),
        "Sets how many times longer a weight takes in a sparse list than in a dense tile: what `auto` chooses by.");
  m.def("simd_level", &zoosparse::simd_level_name, "The instruction set in use.");
  m.def("set_simd_level", &zoosparse::set_simd_level, "Switches the instruction set for this process.");
  m.def("available_simd_levels", &zoosparse::available_simd_levels, "What this CPU can run, best last.");
}
