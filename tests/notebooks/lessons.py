"""Reading the lessons: which there are, their cells, and a solved copy of one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
ALL = LESSONS + SOLUTIONS

Notebook = Any


def notebook_id(path: Path) -> str:
    """The test id of a notebook: its path below notebooks/, without the suffix."""
    return str(path.relative_to(ROOT / "notebooks").with_suffix(""))


def read(path: Path) -> Notebook:
    return nbformat.read(path, as_version=4)


def lesson(number: str) -> Path:
    return next(path for path in LESSONS if path.name.startswith(number))


def code_cells(notebook: Notebook, tag: str | None = None) -> list[Any]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return cells if tag is None else [cell for cell in cells if tag in cell.metadata.get("tags", [])]


def text_of(notebook: Notebook) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def solutions_of(path: Path) -> dict[str, str]:
    """Exercise name -> the solved cell, from the solutions notebook beside the lesson."""
    solved = read(path.parent / "solutions" / path.name)
    return {cell.metadata.labkit.exercise: cell.source for cell in code_cells(solved, "solution")}


def solved_copy(path: Path) -> Notebook:
    """The lesson with the worked solution in each exercise cell."""
    notebook, solutions = copy.deepcopy(read(path)), solutions_of(path)
    for cell in code_cells(notebook, "exercise"):
        cell.source = solutions[cell.metadata.labkit.exercise]
    return notebook
