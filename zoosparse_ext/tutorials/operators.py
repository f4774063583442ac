# %% [markdown]
# # The operators in your own pipeline
#
# You have networks of your own, as rows of a matrix or as modules, and want exact sparsity in each of them. Nothing but
# `zs.ops` is needed: no zoo, no data set, no files.

# %%
from __future__ import annotations

import torch

import zoosparse_ext as zs

torch.manual_seed(0)
weights = torch.randn(500, 2464)  # [N, P]: one row per model
k = round(0.8 * weights.shape[1])

# %% [markdown]
# ## Prune every row to the same count
# Exactly `k` weights of each row become zero, the smallest ones; of equal ones the first. True in a mask means kept.

# %%
pruned = weights.clone()
mask = zs.ops.magnitude_prune_(pruned, k)  # bool [N, P]
assert ((pruned == 0).sum(dim=1) == k).all()
print(f"{mask.float().mean():.1%} of the weights are left in each of {len(mask)} models")

# %% [markdown]
# ## A count of its own for each model, or for each layer
# `segments` are the borders of the layers in the columns; `k` is then one count a layer, or one a model and layer.

# %%
counts = torch.randint(0, 2464, (500,))  # [N]
mask = zs.ops.magnitude_mask(weights, counts)
assert torch.equal((~mask).sum(dim=1), counts)

layers = [0, 208, 1414, 2464]
mask = zs.ops.magnitude_mask(weights, torch.tensor([100, 1000, 900]), segments=layers)
for start, end, name in zip(layers[:-1], layers[1:], ("conv 1", "conv 2", "the rest"), strict=True):
    print(f"{name}: {(~mask[:, start:end]).float().mean():.1%} pruned")

# %% [markdown]
# ## Masks as bits, held while you train
# A packed mask takes an eighth of a byte a weight, and is what you store. Applied after every step, it keeps a pruned
# weight at exactly zero, whatever the optimizer did.

# %%
packed = zs.ops.pack_mask(mask)  # uint8 [N, ceil(P / 8)]
print(f"{mask.numel():,} bytes as bool, {packed.numel():,} packed")

student = torch.nn.Parameter(weights.clone())
optimizer = torch.optim.Adam([student], lr=1e-2)
target = torch.randn_like(weights)
for _ in range(5):
    optimizer.zero_grad()
    (student - target).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        zs.ops.apply_mask_(student, packed)
assert not student[~zs.ops.unpack_mask(packed, 2464)].any()
print("after five steps of Adam every pruned weight is still 0.0")
