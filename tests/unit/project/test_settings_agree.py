"""environment.yml, pyproject.toml and constraints.txt describe one environment."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda r: r.name)
def test_each_direct_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    version = pins().get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} is missing in constraints.txt"
    assert requirement.specifier.contains(version)


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda r: r.name)
def test_each_direct_dependency_says_what_it_is_for(requirement: Requirement) -> None:
    line = next(
        text
        for text in (ROOT / "pyproject.toml").read_text().splitlines()
        if text.strip().startswith(f'"{requirement.name}')
    )
    assert re.search(r"# \S", line), line


def test_the_packages_of_the_workshop_are_direct_dependencies() -> None:
    named = {"jupyterlab", "ipywidgets", "kubernetes", "pandas", "matplotlib", "graphviz", "papermill", "nbval"}
    assert named <= {r.name for r in DIRECT}


def test_conda_installs_the_project_with_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["--constraint constraints.txt", "--editable .[dev]"]


def test_conda_pins_a_python_that_the_project_accepts() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python = next(d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python="))
    assert Requirement("python" + PROJECT["requires-python"]).specifier.contains(python.removeprefix("python=") + ".0")


@pytest.mark.parametrize("name", ["constraints.txt", "environment.yml"])
def test_no_address_of_a_registry_stands_in_a_pinned_file(name: str) -> None:
    assert "://" not in (ROOT / name).read_text()


def test_every_pinned_version_installs_on_the_oldest_python() -> None:
    """A pin made on a newer patch release can ask for more than the first release of the oldest Python gives."""
    oldest = min(PROJECT["requires-python"].replace(">=", "").split(",")) + ".0"
    wanted = {name: metadata.metadata(name)["Requires-Python"] for name in pins() if find_distribution(name)}
    demanding = {name: python for name, python in wanted.items() if not SpecifierSet(python or "").contains(oldest)}
    assert not demanding


def find_distribution(name: str) -> bool:
    try:
        metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return False
    return True
