// Element-wise functions of the training engine against double precision, and Philox against its published answers.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>

#define ZOOSPARSE_ISA plain
#include "cpu/simd/train_random.inl"

namespace zoosparse::plain {
namespace {

int failures = 0;

// Largest relative error of `function` on [low, high]; where the true value is below `floor`, relative to that.
template <int W, class Function, class Truth>
void expect_error_below(double bound, const char* name, double low, double high, double floor, const Function& function,
                        const Truth& truth) {
  double largest = 0, worst = 0;
  constexpr int kCount = 1 << 20;
  for (int i = 0; i < kCount; i += W) {
    Floats<W> x;
    for (int l = 0; l < W; ++l) x[l] = static_cast<float>(low + (high - low) * (i + l) / (kCount - 1));
    const Floats<W> y = function(x);
    for (int l = 0; l < W; ++l) {
      const double expected = truth(static_cast<double>(x[l]));
      const double error = std::fabs(y[l] - expected) / std::fmax(std::fabs(expected), floor);
      if (!(error <= largest)) largest = error, worst = x[l];
    }
  }
  std::printf("%-8s %2d lanes: %.2e at %g (bound %.1e)\n", name, W, largest, worst, bound);
  if (!(largest <= bound)) ++failures;
}

template <int W>
void test_functions() {
  typedef Floats<W> F;
  constexpr double kTau = 6.283185307179586;
  expect_error_below<W>(
      1.5e-7, "exp", -87, 88, 0, [](F x) { return exponential<W>(x); }, [](double x) { return std::exp(x); });
  expect_error_below<W>(
      1.5e-7, "log", 1e-6, 4, 1e-3, [](F x) { return logarithm<W>(x); }, [](double x) { return std::log(x); });
  expect_error_below<W>(
      1.5e-7, "log", 1, 1e6, 0, [](F x) { return logarithm<W>(x); }, [](double x) { return std::log(x); });
  expect_error_below<W>(
      5e-7, "tanh", -10, 10, 0, [](F x) { return hyperbolic_tangent<W>(x); }, [](double x) { return std::tanh(x); });
  expect_error_below<W>(
      5e-7, "erf", -5, 5, 0, [](F x) { return error_function<W>(x); }, [](double x) { return std::erf(x); });
  expect_error_below<W>(
      4e-7, "sigmoid", -80, 80, 0, [](F x) { return logistic<W>(x); }, [](double x) { return 1 / (1 + std::exp(-x)); });
  expect_error_below<W>(
      2e-7, "sin", 0, 1, 1, [](F x) { return turn<W>(x).sine; }, [=](double x) { return std::sin(kTau * x); });
  expect_error_below<W>(
      2e-7, "cos", 0, 1, 1, [](F x) { return turn<W>(x).cosine; }, [=](double x) { return std::cos(kTau * x); });
  const float nan = std::nanf("");
  const float results[] = {hyperbolic_tangent<W>(broadcast<W>(nan))[0], error_function<W>(broadcast<W>(nan))[0],
                           exponential<W>(broadcast<W>(nan))[0], max_of<F>(F{}, broadcast<W>(nan))[0]};
  for (const float y : results)
    if (!std::isnan(y)) std::printf("FAILED: NaN became %g\n", y), ++failures;
  for (const float x : {20.0f, 1e30f, HUGE_VALF})
    for (const float y : {hyperbolic_tangent<W>(broadcast<W>(x))[0], -hyperbolic_tangent<W>(broadcast<W>(-x))[0],
                          error_function<W>(broadcast<W>(x))[0], -error_function<W>(broadcast<W>(-x))[0]})
      if (y != 1) std::printf("FAILED: %g became %g\n", x, y), ++failures;
}

// Known answers of Random123: counter, key, result.
const uint32_t kAnswers[][10] = {{0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                                 {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
                                  0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                                 {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
                                  0x94fdcceb, 0x5001e420, 0x24126ea1}};

template <int W>
void test_philox() {
  for (const auto& answer : kAnswers) {
    uint32_t scalar[4] = {answer[0], answer[1], answer[2], answer[3]};
    philox4x32(scalar, answer[4], answer[5]);
    const RoundKeys<W> keys = round_keys<W>(Words<W>{} + answer[4], Words<W>{} + answer[5]);
    const RandomStream<W> stream(keys, answer[1], answer[2], answer[3]);
    Words<W> words[4];
    stream.words(answer[0], words);
    for (int i = 0; i < 4; ++i)
      for (int l = 0; l < W; ++l)
        if (scalar[i] != answer[6 + i] || words[i][l] != answer[6 + i])
          std::printf("FAILED philox %d lanes, word %d: %08x %08x\n", W, i, scalar[i], words[i][l]), ++failures;
  }
}

}  // namespace
}  // namespace zoosparse::plain

int main() {
  using namespace zoosparse::plain;
  test_functions<4>(), test_functions<8>(), test_functions<16>();
  test_philox<4>(), test_philox<8>(), test_philox<16>();
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
