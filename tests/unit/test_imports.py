"""What an import drags in, seen in a fresh interpreter; import-linter does not see what `__init__` modules load."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = [
    *("IPython", "ipykernel", "ipywidgets", "jupyter_client", "kubernetes", "pandas", "numpy", "matplotlib"),
    *("aiohttp", "asyncio", "yaml", "subprocess", "socket", "ssl", "cryptography", "graphviz", "psutil"),
]


def loaded_by(statement: str) -> set[str]:
    """The modules of HEAVY that a fresh interpreter has loaded after `statement`."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    # -I: neither the environment nor the working directory add to what is imported
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    return set(HEAVY) & set(done.stdout.split())


# A .pth file of an editable install may load modules by itself; those are nobody's import.
@pytest.fixture(scope="module")
def always_there() -> set[str]:
    return loaded_by("")


@pytest.mark.parametrize(
    "module", ["labkit.policy", "labkit.outcomes", "labkit.errors", "labkit.policy.world", "labkit"]
)
def test_pure_modules_import_nothing_heavy(module: str, always_there: set[str]) -> None:
    assert loaded_by(f"import {module}") - always_there == set()


def test_certificates_import_neither_cluster_nor_notebook(always_there: set[str]) -> None:
    # cryptography reads dates with the e-mail package, and that loads socket
    assert loaded_by("import labkit.pki") - always_there <= {"cryptography", "socket"}


def test_the_instrument_sees_what_is_imported(always_there: set[str]) -> None:
    assert "asyncio" in loaded_by("import asyncio") - always_there
