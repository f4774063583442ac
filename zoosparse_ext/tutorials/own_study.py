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
print(f"accuracy of the originals: {final.test_accuracy.min():.0%} to {final.test_accuracy.max():.0%}")

# %% [markdown]
# ## The zoo and its twins
# A zoo is a folder: the originals with their predictions, how they were trained, and their twins, which a study adds.
# Variational dropout chooses its own sparsity, so every model is also pruned by magnitude to exactly the sparsity that
# its variational twin reached. Twins are trained with the optimizer and the loss of their models, unless the study says
# otherwise.

# %%
folder = Path(tempfile.mkdtemp(prefix="zoosparse-tutorial-"))
zoo = zs.Zoo.create(folder / "bars-zoo", population, data)
study = {
    "magnitude": {
        "ratios": [0.5, 0.8, 0.9],
        "scopes": ["global"],
        "matched_scopes": ["global"],
        "matched_epochs": [],
        "epochs": 2,
        "control": False,
    },
    "variational": {"epochs": 6, "preset": "molchanov", "control": False},
}
zoo = zs.run_study(study, zoo, data=data)
print(zoo)
ends = zoo.twins.sort_values("epoch").drop_duplicates("twin_id", keep="last")
ends["asked"] = ends.target.map("{:.0%}".format).where(ends.method == "magnitude", "nothing")
ends.loc[ends.matched.notna(), "asked"] = "what VD reached"
print(ends.groupby(["method", "asked"])[["sparsity", "accuracy", "agreement"]].median().round(3))

# %% [markdown]
# ## What it shows, and the report
# Tables, claims and answers as objects; and one page that needs nothing else, with all figures and tables as files
# beside it.

# %%
found = zs.analyze(zoo)
print(*found.summary, sep="\n")
print(found.tables["performance"][["series", "level_label", "n", "accuracy_median"]])

page = zs.write_report(zoo, folder / "bars-report", title="Sparse twins of bars")
print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB, claims checked: {len(found.claims)}")
