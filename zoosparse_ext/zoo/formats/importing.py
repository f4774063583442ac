"""`import_zoo`: a zoo out of what someone else's tools wrote."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.zoo.folder import MANIFEST
from zoosparse_ext.zoo.formats import (
    collection,
    exported,
    flat,
    preprocessed,
    ray_tree,
    ray_trials,
    small_cnn,
)
from zoosparse_ext.zoo.formats.plan import Options, Plan
from zoosparse_ext.zoo.formats.run import OnProgress, run
from zoosparse_ext.zoo.store import Zoo

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Format:
    """A format: what to know it by, in words and in code, and how to plan its import."""

    sign: str
    recognise: Callable[[Path], bool]
    plan: Callable[[Sequence[PathLike], Options], Plan]


FORMATS: dict[str, Format] = {  # in this order they are tried
    "zoosparse": Format("zoosparse.json", exported.is_export, exported.plan_export),
    "modelzoos": Format("trials with folders checkpoint_…", ray_trials.is_tree, ray_tree.plan_trees),
    "small-cnn-zoo": Format("weights.npy with layout.csv", small_cnn.is_small_cnn, small_cnn.plan_small_cnn),
    "preprocessed": Format(
        "one .pt of data sets", preprocessed.is_preprocessed, preprocessed.plan_preprocessed
    ),
    "flat": Format("one matrix with index_dict.json", flat.is_flat, flat.plan_flat),
    "checkpoints": Format(".pt or .safetensors files", collection.is_collection, collection.plan_collections),
}


def import_zoo(
    src: PathLike | Sequence[PathLike],
    format: str = "auto",
    *,
    out: PathLike | None = None,
    epochs: str | Sequence[int] = "last",
    strict: bool = False,
    allow_nan: bool = False,
    trust_pickle: bool = False,
    activation: str | None = None,
    architecture: Architecture | nn.Module | None = None,
    threshold: float = 3.0,
    workers: int | None = None,
    progress: OnProgress | None = None,
) -> Zoo:
    """A zoo out of what is published: Ray trees of modelzoos.cc, flat matrices, the Small CNN Zoo, checkpoints.

    Also the preprocessed `.pt` data sets of modelzoos.cc. Flat matrices come with an `index_dict.json`, folders of
    checkpoints (`.pt`, `.safetensors`, repositories in the manner of the Hugging Face Hub, pruned modules) with or
    without a table.

    Models that cannot be read are left out and listed, with the reason, in ``zoo.provenance["import"]["skipped"]``.
    Nothing in the source is ever run: pickles are read by a parser that knows tensors and plain values only.

    Example::

        zoo = zs.import_zoo(["zoos/mnist", "zoos/mnist-twins"], out="my-zoo", epochs="all")
        zoo.population("original").weights    # the last epoch of every model, [N, P]
        zoo.population("original@10").weights # an earlier one

    Args:
        src: a folder or file, or several that belong together, such as a zoo and its twins.
        format: ``"auto"``, or one of `FORMATS`.
        out: write the zoo there while reading, in bounded memory; an interrupted import goes on when it is started
            again. None: keep it in memory.
        epochs: ``"last"``, ``"all"``, or a sequence of epochs (0 = untrained). Earlier epochs become populations
            `original@<epoch>`.
        strict: raise on the first model that cannot be read, instead of leaving it out.
        allow_nan: keep models whose weights hold NaN or infinity. Our own exports come back to the bit in any case.
        trust_pickle: run pickles that need more than tensors and plain values. Only for files from people you trust.
        activation: of the networks, where the source does not say it.
        architecture: of all models, where it cannot be told from the tensors.
        threshold: of log α, from which a weight of a variational twin counts as dropped; it is not stored in trees.
        workers: processes that read; default: one per core for large zoos that go to `out` (a script then needs the
            usual ``if __name__ == "__main__":``).
        progress: called with the number of models that were read, and of all.

    Returns:
        The zoo; opened from `out`, if given.

    Raises:
        StoreError: the source is missing, of no known format, or nothing in it can be read; `out` holds something else.
        InputError: an unknown format, epochs that are none, a threshold that is NaN, or fewer than one worker.
    """
    roots = [Path(path).absolute() for path in ([src] if isinstance(src, str | os.PathLike) else src)]
    for root in roots:  # absolute: what a source names is looked up from its own folder
        if not root.exists():
            raise StoreError(f"{root} does not exist")
    if out is not None:
        Zoo.require_new(Path(out))
    if math.isnan(threshold):
        raise InputError("the threshold of log α is nan; give a number, such as 3")
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}, expected 1 or more")
    if isinstance(architecture, nn.Module):
        architecture = Architecture.from_module(architecture)
    options = Options(_epochs(epochs), strict, allow_nan, trust_pickle, activation, architecture, threshold)
    chosen = FORMATS[recognise(roots) if format == "auto" else _known(format)]
    plan = chosen.plan(roots, options)
    return run(plan, options, None if out is None else Path(out), workers=workers, progress=progress)


def recognise(roots: Sequence[Path]) -> str:
    """The format of a source.

    Raises:
        StoreError: it is none that is known, or one source has another than the next.
    """
    if not roots:
        raise InputError("nothing to import was given")
    for root in roots:
        if (root / MANIFEST).is_file():
            raise StoreError(f"{root} is a zoo already; go on with it as it is, or export it")
    for name, candidate in FORMATS.items():
        if all(candidate.recognise(root) for root in roots):
            return name
    found = {root: [name for name in FORMATS if FORMATS[name].recognise(root)] for root in roots}
    for root, names in found.items():
        if not names:
            raise StoreError(
                f"{root} has no known format: it {_content(root)}, expected {_signs()}. "
                "Say format=… (--format) if it is one of them"
            )
    shown = ", ".join(f"{root} is {names[0]}" for root, names in found.items())
    raise StoreError(f"sources of one zoo must have one format, but {shown}; import them one by one")


def _content(root: Path) -> str:
    """What is there, as far as a message has room."""
    if not root.is_dir():
        return "is a file"
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return f"holds {', '.join(names[:4]) or 'nothing'}{', …' * (len(names) > 4)}"


def _signs() -> str:
    return ", ".join(f"{format.sign} ({name})" for name, format in FORMATS.items())


def _known(format: str) -> str:
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; known: auto, {', '.join(FORMATS)}")
    return format


def _epochs(epochs: str | Sequence[int]) -> str | tuple[int, ...]:
    if isinstance(epochs, str):
        if epochs not in ("last", "all"):
            raise InputError(f"epochs must be 'last', 'all' or numbers, got {epochs!r}")
        return epochs
    chosen = tuple(sorted({int(epoch) for epoch in epochs}))
    if not chosen or chosen[0] < 0:
        raise InputError(f"epochs must be 0 or more, got {list(epochs)}")
    return chosen
