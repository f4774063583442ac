"""Training steps of many models at once: the native engine behind :func:`zoosparse_ext.train`.

The engine keeps one model in each lane of the vector registers, on a GPU one model in each block of threads, and runs
many steps per call. It reads a program as the
table that :meth:`zoosparse_ext.population.Program.encode` makes. Its reference is the training in
:mod:`zoosparse_ext.population`, which runs wherever the engine does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError, ZoosparseError

from . import _registry
from ._checks import check_devices, check_int64, check_tensor

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")  # in the order of their numbers
LOSSES = ("cross_entropy", "mse")  # in the order of their numbers
DEVICES = ("cpu", "cuda")  # that have a native engine
HYPER_COLUMNS = ("lr", "weight_decay", "beta1", "beta2", "eps", "nesterov")

_SCHEMA = (
    "train_steps_(Tensor(a!) weights, Tensor(b!) moment1, Tensor(c!) moment2, Tensor(d!) log_sigma2, "
    "Tensor(e!) sigma_moment1, Tensor(f!) sigma_moment2, Tensor program, Tensor values, Tensor clamp, "
    "Tensor images, Tensor mean, Tensor std, Tensor labels, Tensor order, SymInt batch_size, int optimizer, "
    "Tensor hyper, Tensor lr_factor, Tensor packed_masks, Tensor dropout, Tensor seeds, SymInt seed, "
    "SymInt first_step, "
    "float kl_weight, bool variational_bias, int loss, SymInt crop, bool flip) -> (Tensor, Tensor)"
)


_ANYWHERE = (
    "program", "values", "clamp", "mean", "std", "order", "hyper", "lr_factor", "packed_masks", "dropout", "seeds",
)  # fmt: skip


def available(device: str = "cpu") -> bool:
    """Whether the native engine is built and loaded for tensors on such a device, ``"cpu"`` or ``"cuda"``."""
    return _registry.has_native("train_steps_", device)


def why_unavailable(device: str = "cpu") -> str:
    """Why the native engine is not there; empty when it is."""
    return _registry.why_not_native("train_steps_", device)


def train_steps_(
    weights: Tensor,
    *,
    program: Tensor,
    values: Tensor,
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    labels: Tensor,
    order: Tensor,
    batch_size: int,
    optimizer: str,
    hyper: Tensor,
    lr_factor: Tensor,
    seeds: Tensor,
    seed: int = 0,
    first_step: int = 0,
    moment1: Tensor | None = None,
    moment2: Tensor | None = None,
    packed_masks: Tensor | None = None,
    dropout: Tensor | None = None,
    log_sigma2: Tensor | None = None,
    sigma_moment1: Tensor | None = None,
    sigma_moment2: Tensor | None = None,
    clamp: Tensor | None = None,
    kl_weight: float = 1.0,
    variational_bias: bool = False,
    loss: str = "cross_entropy",
    crop: int = 0,
    flip: bool = False,
) -> tuple[Tensor, Tensor]:
    """Train N models for ``ceil(T / batch_size)`` steps, in place: weights, moments and log σ² change.

    Update rules are those of `torch.optim`; a batch's loss is the mean over its samples. What a model learns
    depends on its own row alone: not on its neighbours, on N, on the threads, or on how the steps are cut into calls.

    Example::

        table, values = architecture.program.encode((1, 28, 28), offsets)
        loss, correct = train_steps_(
            weights, moment1=first, moment2=second, program=table, values=values, images=images, mean=mean, std=std,
            labels=labels, order=order, batch_size=10, optimizer="adam", hyper=hyper, lr_factor=factors, seeds=seeds,
        )

    Args:
        weights: [N, P] float32; on a GPU with their state, masks, images and labels, the rest may lie anywhere.
        program, values: the program's table int64 [L, 18] and numbers float64 [L].
        images: [M, C, H, W], uint8 (divided by 255) or float32; the network sees ``(image − mean) / std``.
        mean, std: per channel [C].
        labels: int64 [M].
        order: int32 [N, T], or [1, T] for all models: the sample at each place; consecutive runs of `batch_size` are
            the batches, the last may be shorter.
        optimizer: one of `OPTIMIZERS`.
        hyper: float64 [N, 6], columns `HYPER_COLUMNS`; RMSprop's alpha is beta2, SGD's momentum beta1.
        lr_factor: float64 [steps], multiplies lr.
        seeds, seed: int64 [N] and a number, keys of the random numbers (see :mod:`zoosparse_ext.random`).
        first_step: steps done before this call; counts in Adam's corrections and in the random numbers.
        moment1: [N, P] float32: momentum buffer or Adam's first moment; not used by RMSprop.
        moment2: [N, P] float32: second moment or square average; not used by SGD.
        packed_masks: uint8 [N, ceil(P/8)]; weights whose bit is 0 are exactly 0 after every step, as are their moments.
        dropout: float32 [N]: the rate of each model; default: those of the program.
        log_sigma2: [N, P] float32, with its moments, turns variational dropout on for all convolution and linear
            weights.
        clamp: float64 [L]: bound of log α for each operation.
        kl_weight: of the summed KL divergence, beside the mean cross-entropy.
        variational_bias: the biases of convolutions are variational too.
        loss: ``"cross_entropy"``, or ``"mse"``: the mean square distance of the scores to the label's one-hot vector.
        crop, flip: augmentation, see :class:`zoosparse_ext.Augment`.

    Returns:
        Loss (without KL) float64 [N] and correct predictions int64 [N], summed over the T samples as they were trained.

    Raises:
        InputError: an unknown optimizer or loss; shapes, dtypes, devices, indices or a program that do not fit;
            layers that share columns; tensors that change and share memory.
        ZoosparseError: the native engine is not there; `available()` says so beforehand.
        RuntimeError: gradients are recorded and a tensor requires one: as PyTorch's own in-place operations on a leaf.
    """
    if optimizer not in OPTIMIZERS:
        raise InputError(f"train_steps_: unknown optimizer {optimizer!r}; known: {', '.join(OPTIMIZERS)}")
    if loss not in LOSSES:
        raise InputError(f"train_steps_: unknown loss {loss!r}; known: {', '.join(LOSSES)}")
    numbers = {"batch_size": batch_size, "seed": seed, "first_step": first_step, "crop": crop}
    for name, number in numbers.items():
        check_int64("train_steps_", name, number)
    check_tensor("train_steps_", "weights", weights)

    def given(tensor: Tensor | None, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(0, dtype=dtype, device=weights.device) if tensor is None else tensor

    tensors = {
        "weights": weights,
        "moment1": given(moment1),
        "moment2": given(moment2),
        "log_sigma2": given(log_sigma2),
        "sigma_moment1": given(sigma_moment1),
        "sigma_moment2": given(sigma_moment2),
        "program": program,
        "values": values,
        "clamp": given(clamp, torch.float64),
        "images": images,
        "mean": mean,
        "std": std,
        "labels": labels,
        "order": order,
        "hyper": hyper,
        "lr_factor": lr_factor,
        "packed_masks": given(packed_masks, torch.uint8),
        "dropout": given(dropout),
        "seeds": seeds,
    }
    for name, tensor in tensors.items():
        check_tensor("train_steps_", name, tensor)
    check_devices("train_steps_", tensors, _ANYWHERE)
    numbers |= {"optimizer": OPTIMIZERS.index(optimizer), "loss": LOSSES.index(loss)}
    try:
        weight = float(kl_weight)
    except (TypeError, ValueError):
        raise InputError(f"train_steps_: kl_weight must be a number, got {kl_weight!r}") from None
    switches = {"kl_weight": weight, "variational_bias": bool(variational_bias), "flip": bool(flip)}
    arguments = tensors | numbers | switches
    loss_sum, correct = _registry.call(
        torch.ops.zoosparse.train_steps_, *(arguments[name] for name in _ARGUMENTS)
    )
    return loss_sum, correct


def _missing(*_: object, **__: object) -> tuple[Tensor, Tensor]:
    why = _registry.why_no_native or "it runs on CPU and CUDA tensors only"
    raise ZoosparseError(
        f"train_steps_ has no implementation here ({why}); zoosparse_ext.train runs on the PyTorch reference instead"
    )


def _fake(weights: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
    n = weights.shape[0]
    return weights.new_empty(n, dtype=torch.float64), weights.new_empty(n, dtype=torch.int64)


def _refuse_gradients(*args: object) -> tuple[Tensor, Tensor]:
    """As PyTorch's in-place operations on a leaf; there is no derivative for other tensors either."""
    for name, tensor in zip(_ARGUMENTS, args, strict=True):
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            if tensor.is_leaf:
                raise RuntimeError(
                    f"train_steps_: {name}: a leaf Variable that requires grad is being used in an in-place operation; "
                    "call it under torch.no_grad()"
                )
            raise RuntimeError(
                f"train_steps_: the gradient of {name} is recorded, and training has no derivative; pass "
                f"{name}.detach(), or call it under torch.no_grad()"
            )
    raise RuntimeError("train_steps_: training has no derivative, forward mode included")


_registry.define(_SCHEMA, _missing, _fake, recorded=_refuse_gradients, anywhere=_ANYWHERE)
_ARGUMENTS = tuple(argument.name for argument in torch.ops.zoosparse.train_steps_.default._schema.arguments)
