// Registration of the operators with torch, and what Python calls.
#include "bindings/library.h"

#include <exception>
#include <string>

#include "bindings/boxing.h"
#include "build_info.h"
#include "common/operators.h"
#include "cpu/settings.h"
#include "cpu/simd/level.h"

namespace zoosparse {
namespace {

using torch::stable::detail::StableLibrary;

// A function that Python calls rather than STABLE_TORCH_LIBRARY_IMPL, whose static initializer would run before anybody
// could look at torch's version. Torch keeps the kernels as long as the process lives.
void register_operators() {
  static bool done = false;
  if (done) return;
  done = true;
  const auto kernels_of = [](const char* device) {
    return new StableLibrary(StableLibrary::Kind::IMPL, "zoosparse", device, __FILE__, __LINE__);
  };
  StableLibrary& library = *kernels_of("CPU");
#define ZOOSPARSE_REGISTER(result, name, parameters) library.impl(#name, &Boxed<&cpu::name>::run);
  ZOOSPARSE_OPERATORS(ZOOSPARSE_REGISTER)
#undef ZOOSPARSE_REGISTER
#if defined(ZOOSPARSE_WITH_CUDA)
  StableLibrary& cuda_library = *kernels_of("CUDA");
#define ZOOSPARSE_REGISTER(result, name, parameters) cuda_library.impl(#name, &Boxed<&cuda::name>::run);
  ZOOSPARSE_OPERATORS(ZOOSPARSE_REGISTER)
#undef ZOOSPARSE_REGISTER
#endif
}

std::string signatures() {
  std::string text;
#define ZOOSPARSE_SIGN(result, name, parameters) text += #name " " + Boxed<&cpu::name>::signature() + "\n";
  ZOOSPARSE_OPERATORS(ZOOSPARSE_SIGN)
#undef ZOOSPARSE_SIGN
  return text;
}

const char* keep(std::string text) {
  static thread_local std::string kept;
  kept = std::move(text);
  return kept.c_str();
}

// Runs `body`: null, or what it threw.
template <class Body>
const char* guarded(const Body& body) {
  try {
    body();
    return nullptr;
  } catch (const std::exception& error) {
    return keep(error.what());
  }
}

}  // namespace
}  // namespace zoosparse

const char* zoosparse_register_operators() {
  return zoosparse::guarded([] { zoosparse::register_operators(); });
}

const char* zoosparse_signatures() {
  try {
    return zoosparse::keep(zoosparse::signatures());
  } catch (const std::exception&) {
    return nullptr;
  }
}

const char* zoosparse_build_info() {
  return "torch=" ZOOSPARSE_TORCH_VERSION "\ntorch_at_least=" ZOOSPARSE_TORCH_TARGET "\ncompiler=" ZOOSPARSE_COMPILER
         "\nbuild_type=" ZOOSPARSE_BUILD_TYPE "\nflags.baseline=" ZOOSPARSE_FLAGS_BASELINE
#if defined(__x86_64__)
         "\nflags.avx2=" ZOOSPARSE_FLAGS_AVX2 "\nflags.avx512=" ZOOSPARSE_FLAGS_AVX512
#endif
#if defined(ZOOSPARSE_WITH_CUDA)
         "\ncuda=" ZOOSPARSE_CUDA_COMPILER "\ncuda_architectures=" ZOOSPARSE_CUDA_ARCHITECTURES;
#else
         "\ncuda=\nwhy_no_cuda=" ZOOSPARSE_WHY_NO_CUDA;
#endif
}

const char* zoosparse_simd_level(const char** name) {
  return zoosparse::guarded([&] { *name = zoosparse::keep(zoosparse::simd_level_name()); });
}

const char* zoosparse_set_simd_level(const char* name) {
  return zoosparse::guarded([&] { zoosparse::set_simd_level(name); });
}

const char* zoosparse_available_simd_levels() {
  std::string names;
  for (const std::string& name : zoosparse::available_simd_levels()) names += (names.empty() ? "" : ",") + name;
  return zoosparse::keep(std::move(names));
}

const char* zoosparse_set_infer_costs(double on_planes, double on_one_position) {
  return zoosparse::guarded([&] { zoosparse::cpu::set_infer_costs(on_planes, on_one_position); });
}

const char* zoosparse_multiply_adds(int64_t count) {
  return zoosparse::guarded([&] { zoosparse::cpu::multiply_adds(count); });
}
