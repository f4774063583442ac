"""What all sections of a study that make twins share."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from pydantic import Field, ValidationError, model_validator

from zoosparse_ext.population.training import TRAINING, Training
from zoosparse_ext.study.derived import with_options
from zoosparse_ext.study.sections import (
    SOURCE,
    OptimizerConfig,
    Section,
    SourceOptimizerConfig,
    TwinOptimizerConfig,
    build_optimizer,
    explain,
)

Variant = dict[str, Any]
Twins = TypeVar("Twins", bound="TwinConfig")


_TwinTraining: Any = with_options(
    Section,
    Training,
    leave_out=("loss", "augment"),  # those of the models
    replaced={
        "epochs": (int, Field(25, ge=0, description="passes over the training images")),
        "optimizer": (
            TwinOptimizerConfig,
            Field(
                SOURCE,
                description="source: each model's own kind, learning rate, weight decay and momentum; a section sets "
                "another",
            ),
        ),
        "seed": (
            int | None,
            Field(None, ge=0, description="for shuffling and noise; default: that of the study"),
        ),
    },
)


class TwinConfig(_TwinTraining, Section):
    """How twins are trained, whatever makes them sparse."""

    recalibrate: bool = Field(
        True, description="measure the running statistics of batch norm anew for the sparse networks"
    )
    control: bool = Field(
        True,
        description="train the unpruned models on in the same way, for what twins are compared with; not for those "
        "that are rewound or pruned by a lottery",
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

        >>> [section.epochs for section in TwinConfig(variants=[{"epochs": 5}]).each()]
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

    @property
    def has_control(self) -> bool:
        """Whether the models are trained on as these twins are."""
        return self.control

    def options(self, seed: int) -> dict[str, Any]:
        """How the twins are trained, as keywords of `add_control_twins` and its like.

        Args:
            seed: of the study.
        """
        named = {name: getattr(self, name) for name in TRAINING if name in type(self).model_fields}
        return {
            **named,
            "optimizer": build_optimizer(self.optimizer),
            "seed": seed if self.seed is None else self.seed,
            "recalibrate": self.recalibrate,
        }

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
