# %% [markdown]
# # Twins of an imported zoo
#
# Somebody published a zoo; you want its sparse twins, in the form in which it came. Here the published zoo is a small
# one written for the occasion, as a Ray tree of modelzoos.cc.

# %%
from __future__ import annotations

import tempfile
from pathlib import Path

import torch

import zoosparse_ext as zs

folder = Path(tempfile.mkdtemp(prefix="zoosparse-tutorial-"))
data = zs.load_dataset("digits").limit(300)

published = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 9))
zs.train(published, data, epochs=2, optimizer=zs.Adam(lr=1e-3))
zoo = zs.Zoo.create(folder / "their-zoo", published, data)
zs.export_zoo(zoo, folder / "published", format="modelzoos")
print(*sorted(path.name for path in (folder / "published").rglob("*") if path.is_dir())[:4], sep="\n")

# %% [markdown]
# ## Import
# The layers are inferred from the tensors, pickles are read without running them, and what cannot be read is left out
# and listed. With `out=` the zoo is written while it is read, in bounded memory.

# %%
imported = zs.import_zoo(folder / "published", out=folder / "my-zoo")
models = imported.population("original")
print(models, "| left out:", imported.provenance.get("import", {}).get("skipped", []))
assert torch.equal(models.weights, published.weights[[published.ids.index(name) for name in models.ids]])

# %% [markdown]
# ## Twins
# What is imported is a zoo on disk, and a study adds twins to it: here by magnitude alone. The data are given, for a
# zoo from elsewhere does not say where they lie. Every finished stage is saved; after an interruption the same call
# resumes.

# %%
pruned = {"ratios": [0.5, 0.9], "scopes": ["global"], "epochs": 1, "control": False}
zoo = zs.run_study({"magnitude": pruned, "variational": False}, imported, data=data)
print(zoo.twins.groupby(["target", "epoch"])[["sparsity", "accuracy", "agreement"]].median().round(3))

# %% [markdown]
# ## Back to the form it came in
# Loaders of modelzoos.cc read the twins unchanged; `safetensors`, `npz`, `huggingface` and `modules` are the
# other forms.

# %%
zs.export_zoo(zoo, folder / "shared", format="modelzoos")
again = zs.import_zoo(folder / "shared")
print(
    f"shared: {len(again.models)} models, {again.twins.twin_id.nunique()} twins, in {', '.join(again.populations)}"
)
zs.Zoo.remove(folder / "my-zoo")
