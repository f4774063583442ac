"""The variational twins of a zoo beside the published ones of MNIST, as a Markdown table.

    zoosparse study mnist-seed --set data.spec=idx:path/to/mnist --set zoo.seeds=64 --out mnist-seed
    python benchmarks/published.py mnist-seed/zoo

Source of the published medians: read off the figure of the project page of "Sparsified Model Zoo Twins: Investigating
Populations of Sparsified Neural Network Models" (Honegger, Schürholt, Borth, 2023), 1,000 models.
"""

from __future__ import annotations

import sys

import pandas as pd

import zoosparse_ext as zs

PUBLISHED = pd.DataFrame(
    {
        "epoch": [0, 2, 3, 5, 10, 15, 20, 25],
        "sparsity": [0.2, 26.2, 43.3, 55.9, 66.6, 72.6, 76.1, 78.6],
        "accuracy": [91.1, 91.2, 91.0, 90.1, 88.5, 87.8, 87.6, 87.5],
    }
).set_index("epoch")


def here(twins: pd.DataFrame) -> pd.DataFrame:
    """Medians over models in percent, by epoch of variational dropout."""
    variational = twins[twins["method"] == "variational"]
    return 100 * variational.groupby("epoch")[["sparsity", "accuracy"]].median()


def main(path: str) -> None:
    zoo = zs.Zoo.open(path)
    table = PUBLISHED.add_suffix(" published").join(here(zoo.twins))
    print(
        f"Medians over {len(zoo.models)} models, percent; in brackets the difference to the published zoo.\n"
    )
    print("| epoch | sparsity | published | accuracy | published |")
    print("|---:|---:|---:|---:|---:|")
    for epoch, row in table.iterrows():
        cells = [str(epoch)]
        for name in ("sparsity", "accuracy"):
            mine, theirs = row[name], row[f"{name} published"]
            cells += [f"{mine:.1f} ({mine - theirs:+.1f})", f"{theirs:.1f}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
