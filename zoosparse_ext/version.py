"""The version of the package that is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """Version of the installed package; "source tree" when it runs without being installed."""
    try:
        return version("zoosparse-ext")
    except PackageNotFoundError:
        return "source tree"
