"""Sparsified twins of whole model zoos.

A zoo is a matrix: one row per model, one column per parameter. Everything here is an operation on rows.

>>> import zoosparse_ext as zs
>>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(3))
>>> zs.magnitude_prune(population, sparsity=0.8).sparsity().round(decimals=3)
tensor([0.8000, 0.8000, 0.8000], dtype=torch.float64)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoosparse_ext import ops
from zoosparse_ext.data import Dataset, Split, load_dataset
from zoosparse_ext.errors import ChunkError, DataError, ExtraError, InputError, StoreError, ZoosparseError
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.batch_norm import recalibrate
from zoosparse_ext.population.concat import concat
from zoosparse_ext.population.ensemble import Ensemble
from zoosparse_ext.population.evaluate import Evaluation, evaluate
from zoosparse_ext.population.hooks import EpochResult, Hooks, Progress
from zoosparse_ext.population.networks import architecture
from zoosparse_ext.population.optimizers import SGD, Adam, AdamW, RMSprop
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.program import Program
from zoosparse_ext.population.schedules import Constant, Cosine, OneCycle, Step
from zoosparse_ext.population.train import train
from zoosparse_ext.population.training import Training
from zoosparse_ext.sparsify.control import continue_training
from zoosparse_ext.sparsify.learned import learn
from zoosparse_ext.sparsify.magnitude import magnitude_prune
from zoosparse_ext.sparsify.methods import LearnedMethod, Ranking, methods, register
from zoosparse_ext.sparsify.methods.variational import PRESETS, Preset
from zoosparse_ext.sparsify.pruning import Pruning
from zoosparse_ext.sparsify.schedules import Cubic, Iterative, OneShot
from zoosparse_ext.sparsify.variational import variational_dropout
from zoosparse_ext.study.from_python import analyze, run_study, write_report
from zoosparse_ext.version import package_version
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.formats import export_zoo, import_zoo, push_zoo
from zoosparse_ext.zoo.population_file import open_population, save_population
from zoosparse_ext.zoo.weights_dataset import WeightsDataset

if TYPE_CHECKING:
    from zoosparse_ext.sparsify.dispatch import sparsify
else:  # the package, which is called as that function
    from zoosparse_ext import sparsify

__version__ = package_version()

__all__ = [
    "PRESETS",
    "SGD",
    "Adam",
    "AdamW",
    "Architecture",
    "Augment",
    "ChunkError",
    "Constant",
    "Cosine",
    "Cubic",
    "DataError",
    "Dataset",
    "Ensemble",
    "EpochResult",
    "Evaluation",
    "ExtraError",
    "Hooks",
    "InputError",
    "Iterative",
    "LearnedMethod",
    "OneCycle",
    "OneShot",
    "Population",
    "Preset",
    "Program",
    "Progress",
    "Pruning",
    "RMSprop",
    "Ranking",
    "Segment",
    "Split",
    "Step",
    "StoreError",
    "Training",
    "WeightsDataset",
    "Zoo",
    "ZoosparseError",
    "__version__",
    "analyze",
    "architecture",
    "concat",
    "continue_training",
    "evaluate",
    "export_zoo",
    "import_zoo",
    "learn",
    "load_dataset",
    "magnitude_prune",
    "methods",
    "open_population",
    "ops",
    "push_zoo",
    "recalibrate",
    "register",
    "run_study",
    "save_population",
    "sparsify",
    "train",
    "variational_dropout",
    "write_report",
]
