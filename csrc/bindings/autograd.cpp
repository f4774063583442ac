#include "bindings/autograd.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
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
  const auto values = torch::jit::last(*stack, op.schema().arguments().size());
  const bool recorded = std::any_of(values.begin(), values.end(), is_recorded);
  const auto below = keys & c10::after_autograd_keyset;
  op.redispatchBoxed(recorded ? c10::DispatchKeySet(kPython) | below : below, stack);
}

void raise_versions(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const auto& arguments = op.schema().arguments();
  const auto values = torch::jit::last(*stack, arguments.size());
  c10::SmallVector<at::Tensor, 6> changed;
  for (size_t i = 0; i < arguments.size(); ++i)
    if (const auto* alias = arguments[i].alias_info(); alias != nullptr && alias->isWrite()) {
      const at::Tensor& tensor = changed.emplace_back(values[i].toTensor());
      TORCH_CHECK(!tensor.is_inference() || c10::InferenceMode::is_enabled(), op.schema().name(), ": ",
                  arguments[i].name(),
                  ": Inplace update to inference tensor outside InferenceMode is not allowed; pass a clone");
    }
  {
    const at::AutoDispatchBelowADInplaceOrView once;  // what the operator calls raises no version again
    op.redispatchBoxed(keys & c10::after_ADInplaceOrView_keyset, stack);
  }
  for (const at::Tensor& tensor : changed) tensor.unsafeGetTensorImpl()->bump_version();
}

}  // namespace zoosparse
