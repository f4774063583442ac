"""One thread a test process: tests run side by side, and tiny tensors gain nothing from more."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

# No deadlines: a busy core is no failure. `tmp_path` may be shared by the examples of one test.
settings.register_profile(
    "zoosparse", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("zoosparse")
