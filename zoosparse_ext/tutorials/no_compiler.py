# %% [markdown]
# # No GPU, no compiler
#
# Everything works on plain PyTorch: each operator has a reference that runs wherever torch runs. An installation
# without a compiler uses it by itself; `ZOOSPARSE_DISABLE_EXT=1` asks for it, before the package is imported.

# %%
from __future__ import annotations

import os

os.environ["ZOOSPARSE_DISABLE_EXT"] = "1"

import torch

import zoosparse_ext as zs

for row in zs.ops.implementations():
    print(f"{row.operator}: {row.implementation}")
assert all(row.implementation == "reference" for row in zs.ops.implementations())

# %% [markdown]
# ## The same masks, to the bit
# The references decide ties and NaN as the kernels do: the smallest go, of equal ones the first, NaN stays.

# %%
weights = torch.tensor([[0.5, -0.1, 0.1, 2.0, float("nan"), 0.0]])
print(zs.ops.magnitude_mask(weights, 2))
assert zs.ops.magnitude_mask(weights, 2).tolist() == [[True, False, True, True, True, False]]

# %% [markdown]
# ## The same study, slower
# Training, both methods and evaluation; only the time differs.

# %%
data = zs.load_dataset("digits").limit(200)
population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(4))
zs.train(population, data, epochs=1, optimizer=zs.Adam(lr=1e-3))
twins = zs.magnitude_prune(population, sparsity=[0.5, 0.9], data=data, epochs=1)
noisy = zs.variational_dropout(population, data, epochs=1)
print(f"magnitude: {twins.sparsity().tolist()}")
print(f"variational, after one epoch: {noisy.sparsity().tolist()}")
accuracy = zs.evaluate(twins, data.test).accuracy
assert accuracy.shape == (8,)
