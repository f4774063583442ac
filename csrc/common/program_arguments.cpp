#include "common/program_arguments.h"

#include "common/checks.h"
#include "common/program_table.h"

namespace zoosparse {

std::vector<TrainOp> decode_program(const char* caller, const at::Tensor& program, const at::Tensor& values,
                                    const at::Tensor& clamp, at::IntArrayRef image_shape, int64_t p) {
  check_dtype(program, at::kLong, caller, "program");
  check_dtype(values, at::kDouble, caller, "values");
  check_dtype(clamp, at::kDouble, caller, "clamp");
  const int64_t length = program.dim() == 2 ? program.size(0) : 0;
  TORCH_CHECK_VALUE(length > 0, caller, ": the program is empty, or no table: shape ", program.sizes());
  check_shape(program, {length, kProgramColumns}, caller, "program");
  check_shape(values, {length}, caller, "values");
  const bool clamped = clamp.numel() > 0;
  if (clamped) check_shape(clamp, {length}, caller, "clamp");
  const auto rows = program.contiguous(), numbers = values.contiguous(), bounds = clamp.contiguous();
  return refusing(caller, [&] {
    return decode_program(ProgramTable{
        .rows = rows.const_data_ptr<int64_t>(),
        .values = numbers.const_data_ptr<double>(),
        .clamp = clamped ? bounds.const_data_ptr<double>() : nullptr,
        .length = length,
        .image_channels = image_shape[0],
        .image_height = image_shape[1],
        .image_width = image_shape[2],
        .parameters = p,
    });
  });
}

}  // namespace zoosparse
