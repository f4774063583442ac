"""The sections of a study that make twins, and their defaults, which the command line shares."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from zoosparse_ext.ops.vardrop import THRESHOLD
from zoosparse_ext.population.optimizers import Optimizer
from zoosparse_ext.sparsify.scopes import SCOPES
from zoosparse_ext.sparsify.variational import PRESETS
from zoosparse_ext.study.inheritance import SourceOptimizer
from zoosparse_ext.study.sections import (
    SOURCE,
    LrSchedule,
    OptimizerConfig,
    Section,
    SourceOptimizerConfig,
    TwinOptimizerConfig,
    build_optimizer,
    explain,
    one_of,
)

Scope = Annotated[
    str, AfterValidator(partial(one_of, known=SCOPES)), Field(json_schema_extra={"enum": list(SCOPES)})
]
Variant = dict[str, Any]
Twins = TypeVar("Twins", bound="TwinConfig")


class TwinConfig(Section):
    """How twins are trained, whatever makes them sparse."""

    epochs: int = Field(25, ge=0)
    batch_size: int = Field(10, ge=1)
    optimizer: TwinOptimizerConfig = Field(
        "source",
        description="source: each model's own kind, learning rate, weight decay and momentum; a section sets another",
    )
    optimizer_state: Literal["new", "source"] = Field(
        "new", description="source: keep the moments that the optimizer of the model ended with"
    )
    lr_schedule: LrSchedule = "constant"
    seed: int | None = Field(None, ge=0, description="of orders and noise; default: that of the study")
    recalibrate: bool = Field(
        True, description="measure the running statistics of batch norm anew for the sparse networks"
    )
    control: bool = Field(
        True, description="train the unpruned models on in the same way, for what twins are compared with"
    )
    variants: list[Variant] = Field(
        [], description="tables of keys of this section; each makes further twins, with these keys changed"
    )

    # What a variant does not take over from its section.
    left_out: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @model_validator(mode="after")
    def _check_variants(self: Twins) -> Twins:
        for number, variant in enumerate(self.variants):
            self._variant(number, variant)
        return self

    def each(self: Twins) -> list[Twins]:
        """This section without its variants, then each of its variants as a section.

        >>> [section.epochs for section in MagnitudeConfig(variants=[{"epochs": 5}]).each()]
        [25, 5]
        """
        base = self.model_copy(update={"variants": []})
        return [base, *(self._variant(*pair) for pair in enumerate(self.variants))]

    def _variant(self: Twins, number: int, variant: Variant) -> Twins:
        if not variant:
            raise ValueError(f"variant {number} is empty; name what it changes: {{seed = 1}}")
        if "variants" in variant:
            raise ValueError(f"variant {number} has variants; write them beside it")
        values = {**self.model_dump(exclude={"variants"}), **self.left_out, **variant}
        try:
            return type(self).model_validate(values)
        except ValidationError as error:
            told = "; ".join(explain(item, type(self)) for item in error.errors())
            raise ValueError(f"variant {number}: {told}") from None

    def built_optimizer(self) -> Optimizer | SourceOptimizer:
        """The optimizer that twins are trained with."""
        return build_optimizer(self.optimizer)

    def full_variants(self, seed: int) -> list[Variant]:
        """The variants of `--preset full`: ten times the learning rate, and another seed than that of the study."""
        faster: Variant
        if self.optimizer == SOURCE or isinstance(self.optimizer, SourceOptimizerConfig):
            there = {} if isinstance(self.optimizer, str) else self.optimizer.model_dump(exclude_none=True)
            faster = {"name": SOURCE, **there, "lr_factor": 10 * there.get("lr_factor", 1.0)}
        else:
            assert isinstance(self.optimizer, OptimizerConfig)
            faster = {**self.optimizer.model_dump(), "lr": float(f"{10 * self.optimizer.lr:.12g}")}
        return [{"optimizer": faster}, {"seed": 1 + (seed if self.seed is None else self.seed)}]


class MagnitudeConfig(TwinConfig):
    """`[magnitude]`: twins by magnitude pruning."""

    ratios: list[float] = Field([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9], min_length=1)
    scopes: list[Scope] = Field(["global", "layer"], description="what is ranked together")
    matched_scopes: list[Scope] = Field(
        ["global", "layer"],
        description="also prune to the sparsity of the VD twins; a variant does so where it says so",
    )
    matched_epochs: list[int] = Field(
        [5, 10, 15, 20, 25],
        description="also to their sparsity after these epochs, and fine-tune for as many; those beyond the last are "
        "left out, the last is always matched",
    )
    schedule: Literal["one-shot", "iterative", "cubic"] = "one-shot"

    left_out: ClassVar[Mapping[str, Any]] = MappingProxyType({"matched_scopes": []})

    @field_validator("ratios")
    @classmethod
    def _in_range(cls, ratios: list[float]) -> list[float]:
        for ratio in ratios:
            if not 0 <= ratio < 1:
                raise ValueError(f"sparsity ratios lie in [0, 1), got {ratio}")
        if twice := sorted({ratio for ratio in ratios if ratios.count(ratio) > 1}):
            raise ValueError(f"ratio {', '.join(map(str, twice))} stands there more than once")
        return ratios

    @field_validator("scopes", "matched_scopes")
    @classmethod
    def _once(cls, scopes: list[Scope]) -> list[Scope]:
        if twice := sorted({scope for scope in scopes if scopes.count(scope) > 1}):
            raise ValueError(f"{', '.join(twice)} stands there more than once")
        return scopes

    @field_validator("matched_epochs")
    @classmethod
    def _are_epochs(cls, epochs: list[int]) -> list[int]:
        if bad := [epoch for epoch in epochs if epoch < 1]:
            raise ValueError(f"epochs are counted from 1, got {bad[0]}")
        return sorted(set(epochs))

    def full_variants(self, seed: int) -> list[Variant]:
        """As for all twins; and those on the cubic schedule."""
        return [{"schedule": "cubic"}, *super().full_variants(seed)]


class VariationalConfig(TwinConfig):
    """`[variational]`: twins by variational dropout."""

    preset: str = "modelzoos"
    threshold: float = THRESHOLD
    kl_scale: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="multiplies the KL weight: the larger, the sparser"
    )
    control: bool = Field(
        True, description="as for magnitude; made where the training differs from that of another control"
    )

    @field_validator("preset")
    @classmethod
    def _known(cls, name: str) -> str:
        return one_of(name, PRESETS)


def matched_epochs(magnitude: MagnitudeConfig, epochs: int) -> list[int]:
    """The epochs before the last one at which variational twins of so many epochs are matched.

    >>> matched_epochs(MagnitudeConfig(), 15)
    [5, 10]
    """
    return [epoch for epoch in magnitude.matched_epochs if epoch < epochs]
