"""The README's table of lessons and its plans say what the notebooks' metadata say."""

from __future__ import annotations

import re

import pytest

from tests.notebooks.lessons import LESSONS, ROOT, notebook_id, read

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINE = re.compile(
    r"^\| \[(\d\d) ([^\]]+)\]\((notebooks/\S+\.ipynb)\) \| ([^|]+) \| (\d+) \| ([^|]+) \| ([^|]*) \|$", re.MULTILINE
)
TABLE = {match[1]: match for match in LINE.finditer(TEXT)}
PLAN = re.compile(r"^\| [a-z ]+ \| ((?:\d\d(?:, )?)+) \| (\d+) \| (\d+) \|$", re.M)
MINUTES = {path.name[:2]: read(path).metadata.labkit.minutes for path in LESSONS}


def rows(text: str) -> set[str]:
    """A3, D6–8 -> A3, D6, D7, D8."""
    found = set()
    for letter, first, last in re.findall(r"([A-F])(\d+)(?:–(\d+))?", text):
        found |= {f"{letter}{number}" for number in range(int(first), int(last or first) + 1)}
    return found


@pytest.mark.parametrize("path", LESSONS, ids=notebook_id)
def test_each_lesson_stands_in_the_table_as_it_says_itself(path) -> None:
    meta = read(path).metadata.labkit
    line = TABLE[meta.lesson]
    assert (line[2], line[3], int(line[5])) == (meta.title, f"notebooks/{path.name}", meta.minutes)
    domain = "–" if meta.exam_domain.startswith("none") else meta.exam_domain.split()[0].rstrip(",")
    assert line[6] == domain
    # A1, settings as parameters, is the form of every lesson: it is told below the table.
    assert rows(line[7]) | {"A1"} == {*meta.covers, "A1"}


def test_no_lesson_in_the_table_is_missing_in_notebooks() -> None:
    assert list(TABLE) == sorted(MINUTES)


def test_the_plans_name_lessons_that_exist_and_add_up() -> None:
    plans = PLAN.findall(TEXT)
    assert len(plans) == 3
    for lessons, minutes, altogether in plans:
        numbers = lessons.split(", ")
        assert len(set(numbers)) == len(numbers)
        assert sum(MINUTES[number] for number in numbers) == int(minutes) < int(altogether)
