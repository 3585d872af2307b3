"""Whether there is a browser: without one these tests are skipped, and say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.embedded import lifecycle
from tests.browser.page import ROOT, missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this directory needs a browser."""
    lacking = missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(300))  # the first one of a module sets up a whole world
            if lacking:
                item.add_marker(pytest.mark.skip(reason=f"NO BROWSER TEST WAS RUN. Install {lacking}"))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a copy of the console, and the tests' embedded cluster, gone at the end."""
    directory = tmp_path_factory.mktemp("desk")
    shutil.copy(ROOT / "notebooks" / "console.ipynb", directory)
    lifecycle.down("embedded", purge=True)
    yield directory
    lifecycle.down("embedded", purge=True)
