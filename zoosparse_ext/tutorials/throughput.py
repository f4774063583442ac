# %% [markdown]
# # How fast is it here?
#
# The same work as a loop over modules and as one operation on the population, on your machine. Results are compared
# before anything is timed, rounds alternate, and the median counts. `pytest benchmarks/` measures more, and against
# stronger rivals than a loop.

# %%
from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

import zoosparse_ext as zs

N, M = 32, 100  # models, images
population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(N))
population = zs.magnitude_prune(population, sparsity=0.9)
modules = [module.eval() for module in population.to_modules()]
images = torch.randn(M, 1, 28, 28)
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
for row in zs.ops.implementations():
    print(f"  {row.operator}: {row.implementation}")


def alternate(rivals: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Median seconds of each, one round of each after the other."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds + 1):
        for name, work in rivals.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first round warms up


def show(work: str, unit: str, amount: int, seconds: dict[str, float]) -> None:
    slowest = max(seconds.values())
    for name, time_taken in seconds.items():
        print(f"{work:<12}{name:<20}{amount / time_taken:>14,.0f} {unit}/s {slowest / time_taken:>7.1f}×")


# %% [markdown]
# ## Evaluation: 32 models, 90 % sparse, on 100 images


# %%
@torch.no_grad()
def one_by_one() -> torch.Tensor:
    return torch.stack([module(images) for module in modules])  # [N, M, C]


torch.testing.assert_close(population(images), one_by_one(), rtol=1e-4, atol=1e-5)
seconds = alternate({"loop over modules": one_by_one, "population": lambda: population(images)})
show("evaluate", "images", N * M, seconds)

# %% [markdown]
# ## Selection: the 80 % smallest weights of every model

# %%
weights = torch.randn(500, 2464)  # [N, P]
k = round(0.8 * weights.shape[1])


def by_topk() -> torch.Tensor:
    largest = weights.abs().topk(weights.shape[1] - k, dim=1, sorted=False).indices  # fewer than the smallest
    return torch.zeros_like(weights, dtype=torch.bool).scatter_(1, largest, True)


kept_by_topk, kept = (
    (weights.abs() * mask).sort(dim=1).values for mask in (by_topk(), zs.ops.magnitude_mask(weights, k))
)
assert torch.equal(kept_by_topk, kept)  # the magnitudes, since topk keeps whichever it likes of equal ones
show(
    "select",
    "models",
    len(weights),
    alternate({"topk": by_topk, "magnitude_mask": lambda: zs.ops.magnitude_mask(weights, k)}),
)
