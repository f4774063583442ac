"""One thread a test process: tests run side by side, and tiny tensors gain nothing from more."""

from __future__ import annotations

from typing import Any

import pytest
import torch

torch.set_num_threads(1)

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # the tests of `make gpu-check` do without
    pass
else:
    # No deadlines: a busy core is no failure. `tmp_path` may be shared by the examples of one test.
    settings.register_profile(
        "zoosparse", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    settings.load_profile("zoosparse")

_without_device: list[pytest.Item] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    _without_device.extend(item for item in items if item.get_closest_marker("cuda"))
    if _without_device:
        items[:] = [item for item in items if item not in _without_device]
        config.hook.pytest_deselected(items=_without_device)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _without_device:
        count = len(_without_device)
        terminalreporter.write_line(f"{count} tests of CUDA kernels were left out: there is no CUDA device")
