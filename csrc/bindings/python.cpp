// The only pybind11 file, and no more than a translation of library.h: it holds no state.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/library.h"

namespace {

template <class Error = std::runtime_error>
void raise(const char* error) {
  if (error != nullptr) throw Error(error);
}

std::vector<std::string> split(const char* text, char at) {
  std::vector<std::string> parts;
  std::istringstream rest(text);
  for (std::string part; std::getline(rest, part, at);) parts.push_back(part);
  return parts;
}

// {key: value} of lines "key<separator>value".
std::map<std::string, std::string> pairs(const char* text, char separator) {
  std::map<std::string, std::string> found;
  for (const std::string& line : split(text, '\n')) {
    const size_t at = line.find(separator);
    found[line.substr(0, at)] = line.substr(at + 1);
  }
  return found;
}

std::string simd_level() {
  const char* name = nullptr;
  raise(zoosparse_simd_level(&name));
  return name;
}

std::map<std::string, std::string> signatures() {
  const char* text = zoosparse_signatures();
  if (text == nullptr) raise("torch could not make an empty tensor");
  return pairs(text, ' ');
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native kernels of zoosparse_ext; import torch first.";
  m.def(
      "build_info", [] { return pairs(zoosparse_build_info(), '='); },
      "Torch whose headers it was built with, the least that it runs with, compiler, flags per instruction set, CUDA.");
  m.def("signatures", &signatures, "The operators and the types of their arguments and results, a letter each.");
  m.def("register_operators", [] { raise(zoosparse_register_operators()); }, "Registers the kernels with torch, once.");
  m.def(
      "multiply_adds", [](int64_t count) { raise(zoosparse_multiply_adds(count)); },
      "Spends that many multiply-adds on all threads, in registers: the roof of benchmarks.");
  m.def(
      "set_infer_costs",
      [](double on_planes, double on_one_position) {
        raise<std::invalid_argument>(zoosparse_set_infer_costs(on_planes, on_one_position));
      },
      pybind11::arg("on_planes"), pybind11::arg("on_one_position"),
      "Sets how many times longer a weight takes in a sparse list than in a dense tile: what `auto` chooses by.");
  m.def("simd_level", &simd_level, "The instruction set in use.");
  m.def(
      "set_simd_level", [](const std::string& name) { raise(zoosparse_set_simd_level(name.c_str())); },
      "Switches the instruction set for this process.");
  m.def(
      "available_simd_levels", [] { return split(zoosparse_available_simd_levels(), ','); },
      "What this CPU can run, best last.");
}
