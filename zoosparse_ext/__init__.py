"""Sparsified twins of whole model zoos.

A zoo is a matrix: one row per model, one column per parameter. Everything here is an operation on rows.

>>> import zoosparse_ext as zs
>>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(3))
>>> zs.magnitude_prune(population, sparsity=0.8).sparsity().round(decimals=3)
tensor([0.8000, 0.8000, 0.8000], dtype=torch.float64)
"""

from __future__ import annotations

from zoosparse_ext import ops
from zoosparse_ext.data import Dataset, Split, load_dataset
from zoosparse_ext.errors import DataError, InputError, StoreError, ZoosparseError
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.batch_norm import recalibrate
from zoosparse_ext.population.ensemble import Ensemble
from zoosparse_ext.population.evaluate import Evaluation, evaluate
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.population.networks import architecture
from zoosparse_ext.population.optimizers import SGD, Adam, AdamW, RMSprop
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.program import Program
from zoosparse_ext.population.train import train
from zoosparse_ext.population.training import Training
from zoosparse_ext.sparsify.control import continue_training
from zoosparse_ext.sparsify.dispatch import sparsify
from zoosparse_ext.sparsify.learned import learn
from zoosparse_ext.sparsify.magnitude import magnitude_prune
from zoosparse_ext.sparsify.variational import variational_dropout
from zoosparse_ext.version import package_version
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.formats import export_zoo, import_zoo, push_zoo
from zoosparse_ext.zoo.weights_dataset import WeightsDataset

__version__ = package_version()

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Architecture",
    "Augment",
    "DataError",
    "Dataset",
    "Ensemble",
    "Evaluation",
    "InputError",
    "Population",
    "Program",
    "Progress",
    "RMSprop",
    "Segment",
    "Split",
    "StoreError",
    "Training",
    "WeightsDataset",
    "Zoo",
    "ZoosparseError",
    "__version__",
    "architecture",
    "continue_training",
    "evaluate",
    "export_zoo",
    "import_zoo",
    "learn",
    "load_dataset",
    "magnitude_prune",
    "ops",
    "push_zoo",
    "recalibrate",
    "sparsify",
    "train",
    "variational_dropout",
]
