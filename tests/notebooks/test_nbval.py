"""nbval over the cells whose output is the same every time: checks, and predictions beside what came true.

The repository holds notebooks without outputs, over which nbval passes vacuously. So the outputs are stored beside
the tests, put into a copy, and compared there; and one that was changed must be seen to fail.

    python -m tests.notebooks.test_nbval 04        stores the outputs of lesson 04 anew
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit.cluster.opening import embedded_lifecycle
from tests.notebooks.lessons import LESSONS, ROOT, code_cells, lesson, notebook_id, read

EXPECTED = Path(__file__).with_name("expected")
STORED = [path for path in LESSONS if (EXPECTED / f"{path.name[:2]}.json").exists()]
NBVAL = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=120", "-p", "no:cacheprovider", "-q"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def is_deterministic(cell: Any) -> bool:
    """Whether a cell's output is the same every time."""
    return "check" in cell.metadata.get("tags", []) or cell.source.startswith("lab.compare(")


def stored_outputs(path: Path) -> dict[str, list[Any]]:
    return json.loads((EXPECTED / f"{path.name[:2]}.json").read_text())


def with_outputs(path: Path, outputs: dict[str, list[Any]]) -> Any:
    """A copy of the lesson that holds these outputs, marked for nbval."""
    notebook = read(path)
    for count, cell in enumerate(code_cells(notebook), 1):
        cell.execution_count = count
        if is_deterministic(cell):
            cell.outputs = [nbformat.from_dict({**output, "execution_count": count}) for output in outputs[cell.id]]
            cell.metadata.setdefault("tags", []).append("nbval-check-output")
    return notebook


def nbval(notebook: Any, directory: Path) -> subprocess.CompletedProcess[str]:
    copy = directory / "lesson.ipynb"
    nbformat.write(notebook, copy)
    environment = {**os.environ, "LABKIT_CI": "1", "PYTHONPATH": str(ROOT)}
    command = [*NBVAL, "-c", os.devnull, f"--rootdir={directory}", str(copy)]
    return subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, check=False)


def executed(path: Path, directory: Path) -> Any:
    from labkit import runner

    run = runner.run_lessons([path], directory, progress=False)[0]
    assert run.ok, run.failure or run.failed_checks
    return nbformat.read(run.executed, as_version=4)


def store(path: Path, directory: Path) -> None:
    """Write the outputs of the cells that are deterministic."""
    outputs = {
        cell.id: [{key: value for key, value in output.items() if key != "execution_count"} for output in cell.outputs]
        for cell in code_cells(executed(path, directory))
        if is_deterministic(cell)
    }
    EXPECTED.mkdir(exist_ok=True)
    text = json.dumps(outputs, indent=1, ensure_ascii=False)
    (EXPECTED / f"{path.name[:2]}.json").write_text(text + "\n", encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def _the_cluster_that_lessons_open_by_themselves() -> Iterator[None]:
    embedded_lifecycle().down("embedded", purge=True)
    yield
    embedded_lifecycle().down("embedded", purge=True)


def test_outputs_are_stored() -> None:
    assert len(STORED) >= 2


@pytest.mark.parametrize("path", STORED, ids=notebook_id)
class TestNbval:
    def test_the_outputs_are_the_stored_ones(self, path: Path, tmp_path: Path) -> None:
        result = nbval(with_outputs(path, stored_outputs(path)), tmp_path)
        assert result.returncode == 0, result.stdout[-3000:]
        assert re.search(r"\d+ passed", result.stdout)


def test_a_changed_output_is_seen_to_fail(tmp_path: Path) -> None:
    path = lesson("00")
    outputs = stored_outputs(path)
    cell, output = next((name, found[0]) for name, found in outputs.items() if found and name.startswith("00-check"))
    output["data"]["text/plain"] = output["data"]["text/plain"].replace("passed", "failed")
    result = nbval(with_outputs(path, outputs), tmp_path)
    assert result.returncode == 1, cell
    assert "1 failed" in result.stdout


if __name__ == "__main__":
    for number in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as place:
            store(lesson(number), Path(place))
