"""The training operator on a CUDA device against the same on the CPU."""

from __future__ import annotations

import pytest
import torch

from zoosparse_ext.ops import train as engine

pytestmark = pytest.mark.cuda


def test_there_is_a_native_kernel() -> None:
    assert engine.available("cuda") and engine.why_unavailable("cuda") == ""


def test_direct_calls_need_everything_on_the_device() -> None:
    weights = torch.zeros(1, 10, device="cuda")
    empty = torch.empty(0)
    with pytest.raises(ValueError, match="moment1 is on cpu, expected cuda"):
        torch.ops.zoosparse.train_steps_(
            *(weights, torch.zeros(1, 10), empty, empty, empty, empty),
            *(torch.zeros(1, 18, dtype=torch.int64), torch.zeros(1, dtype=torch.float64), empty.double()),
            *(torch.zeros(2, 1, 2, 2, device="cuda"), torch.zeros(1), torch.ones(1)),
            *(torch.zeros(2, dtype=torch.int64, device="cuda"), torch.zeros(1, 2, dtype=torch.int32), 1, 0),
            *(
                torch.zeros(1, 6, dtype=torch.float64),
                torch.ones(2, dtype=torch.float64),
                empty.byte(),
                empty,
            ),
            *(torch.zeros(1, dtype=torch.int64), 0, 0, 1.0, False, 0, 0, False),
        )
