"""The console without a person and without a browser: pictures and words instead of widgets."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from labkit import runner
from labkit.embedded import lifecycle
from tests.notebooks.lessons import ROOT

CONSOLE = ROOT / "notebooks" / "console.ipynb"


@pytest.mark.slow
def test_it_runs_and_leaves_a_picture_and_words_and_no_state_of_widgets(tmp_path: Path) -> None:
    try:
        (run,) = runner.run_lessons([CONSOLE], tmp_path, cluster="embedded:console", progress=False)
    finally:
        lifecycle.down("console", purge=True)
    assert run.ok, run.failure
    executed = nbformat.read(run.executed, as_version=4)
    assert "widgets" not in executed.metadata
    data = executed.cells[-1].outputs[0].data
    assert data["image/svg+xml"].startswith("<svg") and ">mTLS<" in data["image/svg+xml"]
    assert "azureopenai/chatfrontend reaches azureopenai/chatbackend on port 5000 by mTLS" in data["text/plain"]
    page = run.executed.with_suffix(".html").read_text(encoding="utf-8")
    assert 'aria-label="Encryption map' in page or "image/svg+xml" in page or "data:image/svg" in page


def test_it_is_stripped_and_every_cell_has_an_id() -> None:
    notebook = nbformat.read(CONSOLE, as_version=4)
    assert "widgets" not in notebook.metadata
    assert [cell.id for cell in notebook.cells if not cell.id.startswith("console-")] == []
    assert [
        cell.id for cell in notebook.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)
    ] == []
