"""The sections of a study that make twins, and their defaults, which the command line shares: one for each method."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from zoosparse_ext.errors import InputError
from zoosparse_ext.options import options_of
from zoosparse_ext.sparsify.methods import METHODS, LearnedMethod, Method, Ranking
from zoosparse_ext.sparsify.methods.magnitude import Magnitude
from zoosparse_ext.sparsify.methods.variational import VariationalDropout
from zoosparse_ext.sparsify.pruning import Pruning
from zoosparse_ext.sparsify.rewinding import require_new_optimizer
from zoosparse_ext.sparsify.scopes import SCOPES
from zoosparse_ext.study.derived import with_options
from zoosparse_ext.study.sections import one_of
from zoosparse_ext.study.twin_config import TwinConfig, Variant

Scope = Annotated[
    str, AfterValidator(partial(one_of, known=SCOPES)), Field(json_schema_extra={"enum": list(SCOPES)})
]


RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)


def _checked(ratios: list[float]) -> list[float]:
    for ratio in ratios:
        if not 0 <= ratio < 1:
            raise ValueError(f"sparsity must be in [0, 1), got {ratio}")
    if twice := sorted({ratio for ratio in ratios if ratios.count(ratio) > 1}):
        raise ValueError(f"ratio {', '.join(map(str, twice))} is there more than once")
    return ratios


Ratios = Annotated[list[float], AfterValidator(_checked)]


_Pruned: Any = with_options(TwinConfig, Pruning)


class RankingConfig(_Pruned, TwinConfig):
    """Twins by a method that ranks weights."""

    method: ClassVar[type[Ranking]]

    ratios: Ratios = Field(list(RATIOS), min_length=1, description="sparsities, each a share in [0, 1)")
    scopes: list[Scope] = Field(["global", "layer"], description="what is ranked together")
    matched_scopes: list[Scope] = Field(
        [],
        description="also prune to the sparsity of the VD twins; a variant does so where it says so",
    )
    matched_epochs: list[int] = Field(
        [5, 10, 15, 20, 25],
        description="also to their sparsity after these epochs, and fine-tune for as many; those beyond the last are "
        "left out, the last is always matched",
    )

    left_out: ClassVar[Mapping[str, Any]] = MappingProxyType({"matched_scopes": []})

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
        cubic: Variant = {"schedule": "cubic"}
        if self.schedule_rounds is not None:
            cubic["schedule_rounds"] = None
        return [cubic, *super().full_variants(seed)]

    @model_validator(mode="after")
    def _fit_together(self) -> RankingConfig:
        try:
            require_new_optimizer(self.pruning(), self.optimizer_state)
        except InputError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def has_control(self) -> bool:
        """As for all twins, but for those whose training that of the models on is not."""
        return self.control and self.pruning().has_control

    def pruning(self) -> Pruning:
        """How weights are pruned."""
        return Pruning(**{item.name: getattr(self, item.name) for item in options_of(Pruning)})

    def ranking(self) -> Ranking:
        """The method, with the options that stand here."""
        return self.method(**{item.name: getattr(self, item.name) for item in options_of(self.method)})


class MagnitudeConfig(RankingConfig):
    """`[magnitude]`: twins by magnitude pruning."""

    method: ClassVar[type[Ranking]] = Magnitude
    matched_scopes: list[Scope] = Field(
        ["global", "layer"],
        description="also prune to the sparsity of the VD twins; a variant does so where it says so",
    )


class LearnedConfig(TwinConfig):
    """Twins by a method that learns what to keep."""

    method: ClassVar[type[LearnedMethod]]

    control: bool = Field(
        True, description="as for magnitude; made where the training differs from that of another control"
    )

    def learned(self) -> LearnedMethod:
        """The method, with the options that stand here."""
        return self.method(**{item.name: getattr(self, item.name) for item in options_of(self.method)})

    def asked(self) -> list[float] | None:
        """The ratios of sparsity, of a method that is told them."""
        return None


class _AskedConfig(LearnedConfig):
    """Twins by a method that learns an order and is told how much to keep."""

    ratios: Ratios = Field(list(RATIOS), min_length=1, description="sparsities, each a share in [0, 1)")

    def asked(self) -> list[float] | None:
        return self.ratios


_Variational: Any = with_options(LearnedConfig, VariationalDropout)


class VariationalConfig(_Variational, LearnedConfig):
    """`[variational]`: twins by variational dropout."""

    method: ClassVar[type[LearnedMethod]] = VariationalDropout


def _section(cls: type[Method]) -> type[TwinConfig]:
    """`[name]` of a method: its options are keys."""
    base: type[TwinConfig] = RankingConfig
    if issubclass(cls, LearnedMethod):
        base = _AskedConfig if cls.asks_sparsity else LearnedConfig
    made: Any = with_options(base, cls)
    made.__doc__ = f"`[{cls.name}]`: twins by {cls.phrase}."
    made.method = cls
    return made


# Every method that a study knows, by its key; those two are run unless they are left out.
USUAL: dict[str, type[TwinConfig]] = {"magnitude": MagnitudeConfig, "variational": VariationalConfig}
SECTIONS: dict[str, type[TwinConfig]] = {
    **USUAL,
    **{name: _section(cls) for name, cls in METHODS.items() if name not in USUAL},
}


def matched_epochs(section: RankingConfig, epochs: int) -> list[int]:
    """The epochs before the last one at which variational twins of so many epochs are matched.

    >>> matched_epochs(MagnitudeConfig(), 15)
    [5, 10]
    """
    return [epoch for epoch in section.matched_epochs if epoch < epochs]
