// A short cut past the Autograd kernels of Python, where they would have nothing to do.
#pragma once

#include <ATen/core/boxing/KernelFunction.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

namespace zoosparse {

// The Autograd kernel of an operator that changes tensors in place, for any schema. Where no gradient is recorded, it
// calls the operator and raises the versions of what it changed; else zoosparse_ext/ops/_autograd.py takes over.
void change_in_place(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

}  // namespace zoosparse
