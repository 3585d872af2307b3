"""The house: with the embedded cluster taken out, everything else still imports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

IMPORT_EVERYTHING = """
import importlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(root))
for path in sorted(root.glob("labkit/**/*.py")):
    parts = path.relative_to(root).with_suffix("").parts
    if parts[1] not in ("embedded", "apps"):
        module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
        assert module.__file__.startswith(str(root)), module.__file__
assert not [name for name in sys.modules if name.startswith("labkit.embedded")], "something imported it at once"
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("without_embedded", [True, False], ids=["embedded taken out", "embedded in place"])
def test_everything_else_imports(tmp_path: Path, without_embedded: bool) -> None:
    shutil.copytree(ROOT / "labkit", tmp_path / "labkit", ignore=shutil.ignore_patterns("__pycache__"))
    if without_embedded:
        shutil.rmtree(tmp_path / "labkit" / "embedded")
    command = [sys.executable, "-P", "-c", IMPORT_EVERYTHING, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.timeout(60)
def test_the_import_contracts_hold() -> None:
    answer = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout


@pytest.mark.timeout(60)
def test_a_broken_contract_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "labkit", tmp_path / "labkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "labkit" / "policy" / "impure.py").write_text("import socket\n")
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    answer = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert answer.returncode != 0
    assert "BROKEN" in answer.stdout
