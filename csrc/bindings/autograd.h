// What an operator that changes tensors in place does where PyTorch records gradients, for any schema.
#pragma once

#include <ATen/core/boxing/KernelFunction.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

namespace zoosparse {

// The Autograd kernel, a short cut past that of Python: where no gradient is recorded, it calls the operator; else
// zoosparse_ext/ops/_autograd.py takes over.
void change_in_place(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

// The ADInplaceOrView kernel, which runs under no_grad and inference_mode too: calls the operator and raises the
// versions of what it changed, by one each. Without the extension, zoosparse_ext/ops/_autograd.py does.
void raise_versions(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

}  // namespace zoosparse
