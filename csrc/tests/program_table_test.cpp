// Mutated tables of programs: each is refused, or runs in every engine without leaving its memory, as sanitizers see.
#include "common/program_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <vector>

#include "common/infer_planner.h"
#include "cpu/aligned.h"
#include "cpu/infer_model.h"
#include "cpu/simd/infer.h"
#include "cpu/simd/train.h"
#include "cpu/train_planner.h"
#include "cpu/train_team.h"
#include "cuda/train_block_planner.h"
#include "tests/train_population.h"
#include "tests/variants.h"

ZOOSPARSE_VARIANTS(TrainKernels, train_kernels)

namespace zoosparse::test {
namespace {

using Row = std::array<int64_t, kProgramColumns>;
using Random = std::mt19937_64;

constexpr int64_t kMost = INT64_MAX, kLeast = INT64_MIN;

Row encode(const TrainOp& op) {
  return {static_cast<int64_t>(op.kind),
          op.in_channels,
          op.in_height,
          op.in_width,
          op.out_channels,
          op.out_height,
          op.out_width,
          op.kernel_height,
          op.kernel_width,
          op.stride_height,
          op.stride_width,
          op.padding_height,
          op.padding_width,
          op.weight,
          op.bias,
          static_cast<int64_t>(op.activation),
          0,
          0};
}

int64_t one_of(Random& random, std::initializer_list<int64_t> choices) {
  return choices.begin()[random() % choices.size()];
}

int64_t sum(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); }

// Far enough from 0 to be refused, near enough to be added up and multiplied here.
int64_t bounded(int64_t number) { return std::clamp<int64_t>(number, -(1 << 20), 1 << 25); }

// The output that a careless formula gives a window, which may be larger than what it slides over.
void set_output(Row& row, int axis) {
  const int64_t rest = bounded(row[2 + axis]) + 2 * bounded(row[11 + axis]) - bounded(row[7 + axis]);
  row[5 + axis] = row[9 + axis] > 0 ? rest / row[9 + axis] + 1 : 0;
}

void mutate_window(Row& row, Random& random) {
  for (int axis = 0; axis < 2; ++axis) {
    row[7 + axis] = one_of(random, {1, 2, 3, 5, 7, 12, 1 << 24, row[7 + axis]});
    row[9 + axis] = one_of(random, {1, 2, 3, 100, 1 << 24, row[9 + axis]});
    row[11 + axis] = one_of(random, {0, 0, 1, 2, 3, row[11 + axis]});
    set_output(row, axis);
  }
}

// Shapes that follow from those before, as far as they do.
void carry_on(std::vector<Row>& rows) {
  for (size_t i = 1; i < rows.size(); ++i) {
    Row& row = rows[i];
    std::copy_n(rows[i - 1].begin() + 4, 3, row.begin() + 1);
    switch (static_cast<OpKind>(row[0])) {
      case OpKind::conv2d:
        for (int axis = 0; axis < 2; ++axis) set_output(row, axis);
        break;
      case OpKind::max_pool2d:
      case OpKind::avg_pool2d:
        row[4] = row[1];
        for (int axis = 0; axis < 2; ++axis) set_output(row, axis);
        break;
      case OpKind::flatten:
        row[4] = bounded(row[1]) * std::min<int64_t>(bounded(row[2]), 1000) * std::min<int64_t>(bounded(row[3]), 1000);
        break;
      case OpKind::activation:
      case OpKind::dropout:
        std::copy_n(row.begin() + 1, 3, row.begin() + 4);
        break;
      default:
        break;
    }
  }
}

void mutate(std::vector<Row>& rows, Random& random) {
  for (uint64_t times = random() % 4; times > 0; --times) {
    Row& row = rows[random() % rows.size()];
    switch (random() % 5) {
      case 0:
        mutate_window(row, random);
        break;
      case 1:
        row[13 + random() % 2] = sum(one_of(random, {kParameters, kParameters - row[4], 0, -1, kMost, kMost - row[4]}),
                                     one_of(random, {-1, 0, 0, 1}));
        break;
      case 2:
        row[random() % kProgramColumns] =
            one_of(random, {kLeast, -(int64_t{1} << 32), -1, 0, 1, 2, 3, 5, 1 << 24, (1 << 24) + 1, INT32_MAX,
                            int64_t{1} << 31, int64_t{1} << 32, (int64_t{1} << 32) + 1, int64_t{1} << 62, kMost});
        break;
      case 3: {
        int64_t& number = row[random() % kProgramColumns];
        number = sum(number, one_of(random, {-1, 1, int64_t{1} << 32}));
        break;
      }
      default:
        if (rows.size() > 1) rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(random() % rows.size()));
    }
    if (random() % 3 != 0) carry_on(rows);
  }
}

// Larger programs pass as well, and take long.
bool is_small(const std::vector<TrainOp>& program) {
  int64_t work = 0;
  for (const TrainOp& op : program)
    work += int64_t{op.out_channels} * op.out_height * op.out_width * op.kernel_height * op.kernel_width +
            int64_t{op.in_channels} * (op.in_height + 2 * op.padding_height) * (op.in_width + 2 * op.padding_width);
  return work < 1 << 20;
}

void run_inference(const InferKernels& kernels, const std::vector<TrainOp>& program, const Population& population) {
  const InferPlanner planner(program, kernels.lanes);
  const InferPlan& plan = planner.plan();
  const AlignedFloats owner = aligned_floats(plan.vectors * kernels.lanes);
  std::fill_n(owner.get(), plan.vectors * kernels.lanes, 0.0f);
  const int count = std::min<int>(kernels.lanes, kImages);
  kernels.load_images(plan, {population.images.data(), nullptr, population.scale, population.shift}, 0, count,
                      owner.get());
  for (const InferMode mode : {InferMode::dense, InferMode::sparse}) {
    const PreparedModel model(plan, population.weights.data(), HUGE_VAL, mode, {});
    kernels.forward(plan, model.view(), 0, owner.get());
    int32_t predictions[64];
    kernels.judge(plan, population.labels.data(), count, owner.get(), predictions);
  }
}

void run_training(const TrainKernels& kernels, const std::vector<TrainOp>& program, Population& population,
                  bool variational) {
  const TrainParams params = population.params(variational);
  const TrainPlanner planner(program, params, kernels.lanes);
  TrainTeam team(params, planner.plan(), kernels);
  team.work();
  const BlockPlanner blocks(program, variational);  // that of the GPU, whose kernels run elsewhere
  expect(blocks.plan().count >= 0, "plan", "cuda", 0);
}

// True if the engines took it.
bool try_table(const std::vector<Row>& rows, const std::vector<double>& values, const Variant<TrainKernels>& variant,
               bool variational) {
  std::vector<int64_t> numbers;
  for (const Row& row : rows) numbers.insert(numbers.end(), row.begin(), row.end());
  const std::vector<double> clamp(rows.size(), 8.0);  // as many as there are: one read too far is seen
  std::vector<TrainOp> program;
  try {
    program = decode_program(
        {numbers.data(), values.data(), clamp.data(), static_cast<int64_t>(rows.size()), 2, 11, 11, kParameters});
    if (!is_small(program)) return false;
    Population population(0, 3);
    for (int64_t& label : population.labels) label %= program.back().out_channels;
    run_inference(infer_kernels(), program, population);
    check_own_columns(program);
    run_training(*variant.table, program, population, variational);
  } catch (const std::logic_error&) {  // refused
    return false;
  }
  return true;
}

void test_mutations() {
  const auto all = variants();
  Random random(1);
  int taken = 0, tables = 0;
  for (; tables < 3000; ++tables) {
    const std::vector<TrainOp> original = tables % 2 ? averaging_program() : program();
    std::vector<Row> rows;
    for (const TrainOp& op : original) rows.push_back(encode(op));
    mutate(rows, random);
    std::vector<double> values(rows.size(), 0.25);
    if (random() % 8 == 0) values[random() % values.size()] = random() % 2 ? NAN : 1.0;
    taken += try_table(rows, values, all[random() % all.size()], random() % 4 == 0);
  }
  std::printf("%d of %d tables run\n", taken, tables);
  expect(taken > tables / 10 && taken < tables * 9 / 10, "tables that run", "fuzz", taken);
}

bool refuses(const std::vector<TrainOp>& original, size_t index, int column, int64_t number) {
  std::vector<int64_t> numbers;
  for (size_t i = 0; i < original.size(); ++i) {
    Row row = encode(original[i]);
    if (i == index) row[static_cast<size_t>(column)] = number;
    numbers.insert(numbers.end(), row.begin(), row.end());
  }
  const std::vector<double> values(original.size(), 0.25);
  try {
    decode_program(
        {numbers.data(), values.data(), nullptr, static_cast<int64_t>(original.size()), 2, 11, 11, kParameters});
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

// What overflows, column by column.
void test_edges() {
  expect(!refuses(program(), 0, 17, 7), "a reserved column", "", 17);
  expect(!refuses(program(), 0, 16, 3), "frozen weight and bias", "", 16);
  expect(refuses(program(), 0, 16, 4), "what may be frozen", "", 16);
  for (int column = 1; column <= 12; ++column)
    for (const int64_t number : {kLeast, int64_t{-1}, (int64_t{1} << 24) + 1, int64_t{1} << 32, kMost})
      expect(refuses(program(), 0, column, number), "a size", "refused", column);
  for (const int64_t number : {kLeast, int64_t{-1}, kParameters - 249, kMost - 249, kMost})
    expect(refuses(program(), 0, 13, number), "a first weight", "refused", number);
  for (const int64_t number : {kLeast, int64_t{-2}, kParameters - 4, kMost - 4, kMost})
    expect(refuses(program(), 0, 14, number), "a first bias", "refused", number);
  expect(!refuses(program(), 0, 13, kParameters - 250), "the last weights", "taken", 0);
  expect(!refuses(program(), 0, 14, kParameters - 5), "the last biases", "taken", 0);
}

}  // namespace
}  // namespace zoosparse::test

int main() {
  zoosparse::test::test_edges();
  zoosparse::test::test_mutations();
  return zoosparse::test::failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
