// A failure count that becomes the exit code of a test.
#pragma once

#include <cstdio>
#include <string>

namespace zoosparse::test {

inline int failures = 0;

inline void expect(bool ok, const char* what, const std::string& variant, long size) {
  if (ok) return;
  ++failures;
  std::printf("FAILED %s: %s at size %ld\n", variant.c_str(), what, size);
}

}  // namespace zoosparse::test
