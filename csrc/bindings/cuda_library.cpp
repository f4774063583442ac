// The operator table of the CUDA kernels. Whatever is not in it runs on the PyTorch reference.
#include <torch/library.h>

#include "bindings/autograd.h"
#include "cuda/operators.h"

namespace zoosparse::cuda {

void register_operators() {
  static torch::Library autograd(torch::Library::IMPL, "zoosparse", c10::DispatchKey::AutogradCUDA, __FILE__, __LINE__);
  for (const char* name : {"magnitude_prune_", "apply_mask_", "train_steps_"})
    autograd.impl(name, torch::CppFunction::makeFromBoxedFunction<&change_in_place>());
  static torch::Library library(torch::Library::IMPL, "zoosparse", c10::DispatchKey::CUDA, __FILE__, __LINE__);
  library.impl("magnitude_threshold", &magnitude_threshold);
  library.impl("magnitude_mask", &magnitude_mask);
  library.impl("magnitude_prune_", &magnitude_prune_);
  library.impl("magnitude_masks", &magnitude_masks);
  library.impl("pack_mask", &pack_mask);
  library.impl("unpack_mask", &unpack_mask);
  library.impl("apply_mask_", &apply_mask_);
  library.impl("train_steps_", &train_steps_);
  library.impl("infer", &infer);
  library.impl("infer_scores", &infer_scores);
}

}  // namespace zoosparse::cuda
