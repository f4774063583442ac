"""Operations of programs: one class each, in a file for each group.

A class says how the operation is recognized, what it does to shapes, what it computes on the reference, as which module
it is given back, and how native engines read it, if they know it.
"""

from zoosparse_ext.population.operations import (
    activation,
    convolution,
    dropout,
    joining,
    linear,
    normalization,
    pooling,
    shape,
)
from zoosparse_ext.population.operations.base import KINDS, NotAProgram, Operation, Pair, Run, Shape

__all__ = [
    "KINDS",
    "NotAProgram",
    "Operation",
    "Pair",
    "Run",
    "Shape",
    "activation",
    "convolution",
    "dropout",
    "joining",
    "linear",
    "normalization",
    "pooling",
    "shape",
]
