"""Every operator test runs once per implementation that this machine has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from zoosparse_ext.ops import _registry

LEVELS = _registry.native.available_simd_levels() if _registry.native else ["reference"]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Switches to one instruction set of the native kernels; "reference" where there are none."""
    if _registry.native is None:
        yield request.param
        return
    before = _registry.native.simd_level()
    _registry.native.set_simd_level(request.param)
    assert _registry.native.simd_level() == request.param
    yield request.param
    _registry.native.set_simd_level(before)
