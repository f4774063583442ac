"""The native training engine, where it can be used."""

from __future__ import annotations

from zoosparse_ext.data import Split
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.forward import Variational
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.steps import Steps, StepsResult


def why_not(population: Population, variational: Variational | None) -> str:
    """The reason why the native engine cannot train this population; empty if it can."""
    return "the native training engine is not part of this build"


def native_steps(architecture: Architecture, split: Split, steps: Steps) -> StepsResult:
    raise NotImplementedError
