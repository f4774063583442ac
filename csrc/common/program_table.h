// The table that encodes a program, decoded and checked: whatever passes cannot make an engine leave its memory.
#pragma once

#include <cstdint>
#include <vector>

#include "common/params.h"

namespace zoosparse {

// Columns of the table, as FIELDS in zoosparse_ext/ops/_program.py has them; a test holds the two against each other.
enum ProgramField {
  kKind,
  kInChannels,
  kInHeight,
  kInWidth,
  kOutChannels,
  kOutHeight,
  kOutWidth,
  kKernelHeight,
  kKernelWidth,
  kStrideHeight,
  kStrideWidth,
  kPaddingHeight,
  kPaddingWidth,
  kWeight,
  kBias,
  kActivation,
  kFrozen,
  kReserved,
  kProgramFields
};
constexpr int64_t kProgramColumns = kProgramFields;

struct ProgramTable {
  const int64_t* rows;   // [length, kProgramColumns]
  const double* values;  // [length]
  const double* clamp;   // [length], or null: 10 everywhere
  int64_t length;        // operations
  int64_t image_channels, image_height, image_width;
  int64_t parameters;  // columns of the weights
};

// Throws std::invalid_argument with a message that names the operation.
std::vector<TrainOp> decode_program(const ProgramTable& table);

// An engine updates the columns of a layer on its own, so two layers cannot train the same ones. Throws as above.
void check_own_columns(const std::vector<TrainOp>& program);

}  // namespace zoosparse
