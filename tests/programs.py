"""Programs that pip cannot install. On a machine without one its tests are skipped, and say what was not tried."""

from __future__ import annotations

import shutil

import pytest


def program(name: str, untried: str) -> str:
    """Where the program is; skips the test that asks when there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"NO {name.upper()} ON THE PATH: {untried}. pip has no {name}: install it with the system's tools")
    return found
