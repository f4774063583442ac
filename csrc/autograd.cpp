#include "autograd.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/SmallVector.h>

#include <algorithm>

namespace zoosparse {
namespace {

// Python registers its kernel for the Autograd keys of all backends. This one's are taken here, so it is reached
// through the key of a backend that nothing runs on.
constexpr c10::DispatchKey kPython = c10::DispatchKey::AutogradPrivateUse3;

bool is_recorded(const c10::IValue& value) {
  if (!value.isTensor()) return false;
  const at::Tensor& tensor = value.toTensor();
  return (at::GradMode::is_enabled() && tensor.requires_grad()) || tensor._fw_grad(/*level=*/0).defined();
}

}  // namespace

void change_in_place(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const auto& arguments = op.schema().arguments();
  const auto values = torch::jit::last(*stack, arguments.size());
  if (std::any_of(values.begin(), values.end(), is_recorded))
    return op.redispatchBoxed(c10::DispatchKeySet(kPython) | (keys & c10::after_autograd_keyset), stack);
  c10::SmallVector<at::Tensor, 6> changed;
  for (size_t i = 0; i < arguments.size(); ++i)
    if (const auto* alias = arguments[i].alias_info(); alias != nullptr && alias->isWrite())
      changed.push_back(values[i].toTensor());
  op.redispatchBoxed(keys & c10::after_autograd_keyset, stack);
  for (const at::Tensor& tensor : changed)
    if (!tensor.is_inference()) tensor.unsafeGetTensorImpl()->bump_version();
}

}  // namespace zoosparse
