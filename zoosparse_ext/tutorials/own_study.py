# %% [markdown]
# # A study on your own data set and module
#
# Images and labels as tensors, a network as an `nn.Module`: a population of it is trained, sparsified both ways,
# compared and reported. Here the images are bars in noise, so that this runs in seconds.

# %%
from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

import zoosparse_ext as zs
from zoosparse_ext.study import reporting
from zoosparse_ext.study.stages import add_magnitude_twins, add_matched_twins, add_variational_twins

torch.manual_seed(0)
labels = torch.arange(360) % 4  # where the bar is
images = 1.5 * torch.randn(360, 1, 8, 8)  # [M, C, H, W]
for place in range(4):
    images[labels == place, :, :, 2 * place : 2 * place + 2] += 1.0
data = zs.Dataset.from_tensors(images, labels)  # every sixth image of a class becomes the test split
print(data)

# %% [markdown]
# ## The population
# Twelve of your modules, each initialised as you like. A chain of convolution, pooling, activation, dropout and linear
# layers trains on the fast engines; any other module trains on `torch.func`, with the same results.


# %%
def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(54, 12),
        nn.ReLU(),
        nn.Linear(12, 4),
    )


population = zs.Population.from_modules(
    [network(seed) for seed in range(12)], name="bars", input_shape=(1, 8, 8)
)
history = zs.train(population, data, epochs=8, optimizer=zs.Adam(lr=3e-3))
final = history[history.epoch == 8]
population.models["accuracy"] = final.test_accuracy.to_numpy()
population.models["loss"] = final.test_loss.to_numpy()
print(f"accuracy of the originals: {final.test_accuracy.min():.0%} to {final.test_accuracy.max():.0%}")

# %% [markdown]
# ## The twins
# A zoo holds the originals and their twins. Variational dropout chooses its own sparsity, so every model is also pruned
# by magnitude to exactly the sparsity that its variational twin reached.

# %%
zoo = zs.Zoo(
    {"original": [population]},
    models=population.models,
    history=history,
    labels=data.test.labels,
    dataset=data.describe(),
    provenance={"task": {"loss": "cross_entropy"}},  # twins learn what their originals learned
)
zoo = add_magnitude_twins(zoo, data, ratios=[0.5, 0.8, 0.9], epochs=2)
zoo = add_variational_twins(zoo, data, epochs=6, preset="molchanov", optimizer=zs.Adam(lr=3e-3))
zoo = add_matched_twins(zoo, data, epochs=2)
ends = zoo.twins.sort_values("epoch").drop_duplicates("twin_id", keep="last")
ends["asked"] = ends.target.map("{:.0%}".format).where(ends.method == "magnitude", "nothing")
ends.loc[ends.matched.notna(), "asked"] = "what VD reached"
print(ends.groupby(["method", "asked"])[["sparsity", "accuracy", "agreement"]].median().round(3))

# %% [markdown]
# ## The report
# One page that needs nothing else, with all figures and tables as files beside it.

# %%
with tempfile.TemporaryDirectory() as folder:
    zoo.save(Path(folder) / "bars-zoo")
    page, claims = reporting.write(zoo, Path(folder) / "bars-report", title="Sparse twins of bars")
    print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB, claims checked: {len(claims)}")
