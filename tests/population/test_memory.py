"""Training needs memory for the weights and the state of the optimizer, and for one chunk of models besides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from zoosparse_ext.ops import train as native_engine

SCRIPT = """
import sys, torch
import zoosparse_ext as zs

def resident(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

data = zs.load_dataset("digits")
data = zs.Dataset(data.train.head(20), None, data.test.head(20))
for models in (64, 64, int(sys.argv[1])):  # the first two calls bring libraries and buffers in
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(models))
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts from here
    before = resident("VmRSS")
    zs.train(population, data, epochs=1, batch_size=10)
print(resident("VmHWM") - before, population.weights.nbytes)
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc"
)
@pytest.mark.skipif(not native_engine.available(), reason="the native engine is not built")
def test_memory_beyond_the_state_does_not_grow_with_the_models() -> None:
    beyond = []
    for models in (1024, 4096):
        answer = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(models)],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        peak, weights = map(int, answer.stdout.split())
        beyond.append(peak - 2 * weights)  # two moments
    assert beyond[1] - beyond[0] < weights / 2, f"{beyond} bytes beyond the moments at 1,024 and 4,096 models"
