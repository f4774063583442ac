// The operator table of the CPU; csrc/bindings/cuda_library.cpp has that of CUDA. Schemas and references are in
// zoosparse_ext/ops/.
#include <torch/library.h>

#include "bindings/autograd.h"
#include "common/operators.h"

namespace zoosparse {

namespace cuda {
void register_operators();  // csrc/bindings/cuda_library.cpp, where it is built
}

// A function that Python calls rather than TORCH_LIBRARY_IMPL, whose static initialiser would run inside a torch other
// than the one this was built against before anybody could look at the version.
void register_operators() {
  static torch::Library autograd(torch::Library::IMPL, "zoosparse", c10::DispatchKey::AutogradCPU, __FILE__, __LINE__);
  static torch::Library versions(torch::Library::IMPL, "zoosparse", c10::DispatchKey::ADInplaceOrView, __FILE__,
                                 __LINE__);
  static torch::Library library(torch::Library::IMPL, "zoosparse", c10::DispatchKey::CPU, __FILE__, __LINE__);
  static bool done = false;
  if (done) return;
  done = true;
  library.impl("magnitude_threshold", &cpu::magnitude_threshold);
  library.impl("magnitude_mask", &cpu::magnitude_mask);
  library.impl("magnitude_prune_", &cpu::magnitude_prune_);
  library.impl("magnitude_masks", &cpu::magnitude_masks);
  library.impl("pack_mask", &cpu::pack_mask);
  library.impl("unpack_mask", &cpu::unpack_mask);
  library.impl("apply_mask_", &cpu::apply_mask_);
  library.impl("train_steps_", &cpu::train_steps_);
  library.impl("infer", &cpu::infer);
  library.impl("infer_scores", &cpu::infer_scores);
  for (const char* name : {"magnitude_prune_", "apply_mask_", "train_steps_"}) {
    autograd.impl(name, torch::CppFunction::makeFromBoxedFunction<&change_in_place>());
    versions.impl(name, torch::CppFunction::makeFromBoxedFunction<&raise_versions>());
  }
#if defined(ZOOSPARSE_WITH_CUDA)
  cuda::register_operators();
#endif
}

}  // namespace zoosparse
