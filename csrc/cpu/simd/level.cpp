#include "cpu/simd/level.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace zoosparse {
namespace {

struct Entry {
  SimdLevel level;
  const char* name;
  bool supported;
};

const std::vector<Entry>& entries() {
  static const std::vector<Entry> list = [] {
    std::vector<Entry> all{{SimdLevel::baseline, "baseline", true}};
#if defined(__x86_64__)
    __builtin_cpu_init();  // its answers include whether the operating system saves the registers
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    all.push_back({SimdLevel::avx2, "avx2", avx2});
    all.push_back({SimdLevel::avx512, "avx512", avx512});
#endif
    return all;
  }();
  return list;
}

SimdLevel parse(const std::string& name, const std::string& source) {
  std::string runnable;
  for (const Entry& entry : entries()) {
    if (entry.supported && name == entry.name) return entry.level;
    if (entry.supported) runnable += (runnable.empty() ? "" : ", ") + std::string(entry.name);
  }
  for (const Entry& entry : entries())
    if (name == entry.name)
      throw std::runtime_error(source + "=" + name + ": this CPU does not have " + name + "; it can run " + runnable);
  throw std::runtime_error(source + "=" + name + ": no such instruction set; this CPU can run " + runnable);
}

SimdLevel initial() {
  if (const char* forced = std::getenv("ZOOSPARSE_SIMD"); forced != nullptr && *forced != '\0')
    return parse(forced, "ZOOSPARSE_SIMD");
  return parse(available_simd_levels().back(), "best");
}

std::atomic<SimdLevel>& current() {
  static std::atomic<SimdLevel> level{initial()};
  return level;
}

}  // namespace

SimdLevel simd_level() { return current().load(std::memory_order_relaxed); }

void set_simd_level(const std::string& name) { current() = parse(name, "set_simd_level"); }

std::string simd_level_name() {
  const SimdLevel level = simd_level();
  for (const Entry& entry : entries())
    if (entry.level == level) return entry.name;
  return "unknown";
}

std::vector<std::string> available_simd_levels() {
  std::vector<std::string> names;
  for (const Entry& entry : entries())
    if (entry.supported) names.emplace_back(entry.name);
  return names;
}

}  // namespace zoosparse
