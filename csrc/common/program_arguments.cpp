#include "common/program_arguments.h"

#include "common/checks.h"
#include "common/program_table.h"

namespace zoosparse {

std::vector<TrainOp> decode_program(const char* caller, const Tensor& program, const Tensor& values,
                                    const Tensor& clamp, Ints image_sizes, int64_t p) {
  check_type(program, ScalarType::Long, caller, "program");
  check_type(values, ScalarType::Double, caller, "values");
  check_type(clamp, ScalarType::Double, caller, "clamp");
  const int64_t length = program.dim() == 2 ? program.size(0) : 0;
  if (length <= 0) refuse(caller, ": the program is empty, or no table: shape ", text_of(program.sizes()));
  check_shape(program, {length, kProgramColumns}, caller, "program");
  check_shape(values, {length}, caller, "values");
  const bool clamped = clamp.numel() > 0;
  if (clamped) check_shape(clamp, {length}, caller, "clamp");
  const Tensor rows = contiguous(move_to(program, here())), numbers = contiguous(move_to(values, here()));
  const Tensor bounds = contiguous(move_to(clamp, here()));
  return refusing(caller, [&] {
    return decode_program(ProgramTable{
        .rows = read<int64_t>(rows),
        .values = read<double>(numbers),
        .clamp = clamped ? read<double>(bounds) : nullptr,
        .length = length,
        .image_channels = image_sizes[1],
        .image_height = image_sizes[2],
        .image_width = image_sizes[3],
        .parameters = p,
    });
  });
}

}  // namespace zoosparse
