// Kernels as torch's stable ABI calls them: every argument and result is a 64-bit number on a stack. A parameter that
// is a struct with `kFields` takes as many arguments as it has fields, so that 28 arguments are named in one place.
#pragma once

#include <torch/csrc/stable/library.h>

#include <cstddef>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/tensor.h"

namespace zoosparse {

template <class T>
concept Fields = requires { T::kFields; };

// The arguments from `next` on. Taking one takes its memory.
struct Arguments {
  StableIValue* next;

  // For the field of a struct, whose type the compiler knows.
  struct Field {
    Arguments& from;
    template <class T>
    operator T() const {
      return from.take<T>();
    }
  };

  template <class T>
  T take() {
    if constexpr (Fields<T>)
      return take_fields<T>(std::make_index_sequence<T::kFields>());
    else
      return torch::stable::detail::to<T>(*next++);
  }

 private:
  template <class T, size_t... I>
  T take_fields(std::index_sequence<I...>) {
    return T{(static_cast<void>(I), Field{*this})...};  // from left to right, as braces are
  }
};

// One letter a type, as zoosparse_signatures() writes them.
template <class T>
constexpr char letter_of() {
  if constexpr (std::is_same_v<T, Tensor>) return 'T';
  if constexpr (std::is_same_v<T, std::vector<int64_t>>) return 'L';
  if constexpr (std::is_same_v<T, int64_t>) return 'i';
  if constexpr (std::is_same_v<T, double>) return 'd';
  if constexpr (std::is_same_v<T, bool>) return 'b';
}

// Writes down the types that a struct is made of.
struct Recorder {
  std::string& letters;
  template <class T>
  operator T() const {
    letters += letter_of<T>();
    return T{};
  }
};

template <class T>
std::string letters_of() {
  std::string letters;
  if constexpr (Fields<T>)
    [&]<size_t... I>(std::index_sequence<I...>) {
      [[maybe_unused]] const T recorded{(static_cast<void>(I), Recorder{letters})...};
    }(std::make_index_sequence<T::kFields>());
  else
    letters += letter_of<T>();
  return letters;
}

// What a parameter is kept as during the call.
template <class T>
using Kept =
    std::conditional_t<std::is_same_v<std::remove_cvref_t<T>, Ints>, std::vector<int64_t>, std::remove_cvref_t<T>>;

template <class T>
constexpr uint64_t arguments_of() {
  if constexpr (Fields<T>)
    return T::kFields;
  else
    return 1;
}

template <class Result>
constexpr size_t kResults = 1;
template <>
inline constexpr size_t kResults<void> = 0;
template <class... Results>
inline constexpr size_t kResults<std::tuple<Results...>> = sizeof...(Results);

template <class... Results>
void put_results(StableIValue* stack, const std::tuple<Results...>& results) {
  std::apply([&](const auto&... result) { ((*stack++ = torch::stable::detail::from(result)), ...); }, results);
}

template <auto kernel>
struct Boxed;

template <class Result, class... Parameters, Result (*kernel)(Parameters...)>
struct Boxed<kernel> {
  static std::string signature() {
    return (letters_of<Kept<Parameters>>() + ...) + "-" + std::string(kResults<Result>, 'T');
  }

  static void run(StableIValue* stack, uint64_t arguments, [[maybe_unused]] uint64_t results) {
    constexpr uint64_t expected = (arguments_of<Kept<Parameters>>() + ...);
    if (arguments != expected)
      throw std::runtime_error("the schema has " + std::to_string(arguments) + " arguments, the kernel " +
                               std::to_string(expected));
    Arguments given{stack};
    std::tuple<Kept<Parameters>...> kept{given.template take<Kept<Parameters>>()...};
    if constexpr (std::is_void_v<Result>)
      std::apply(kernel, kept);
    else if constexpr (std::is_same_v<Result, Tensor>)
      *stack = torch::stable::detail::from(std::apply(kernel, kept));
    else
      put_results(stack, std::apply(kernel, kept));
  }
};

}  // namespace zoosparse
