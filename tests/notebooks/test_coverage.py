"""Which lesson covers which row, read from the notebooks' metadata and the steps of `labkit.course`, and printed.

A row is covered where a cell's metadata names it, and proved where a step names it: test_steps.py shows that the
checks of that step fail without its effect. Lessons that are still to be written are named, never passed over.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from tabulate import tabulate

from labkit.course import lessons
from tests.notebooks.coverage import PLAN, ROWS, WITHOUT_EFFECT
from tests.notebooks.lessons import LESSONS, code_cells, notebook_id, read

WRITTEN = {path.name[:2] for path in LESSONS}
TO_BE_WRITTEN = [number for number in PLAN if number not in WRITTEN]


def covered() -> dict[str, list[str]]:
    """Row -> lessons whose cells name it."""
    found = defaultdict(list)
    for path in LESSONS:
        for row in read(path).metadata.labkit.covers:
            found[row].append(path.name[:2])
    return found


def proved() -> dict[str, list[str]]:
    """Row -> steps that name it."""
    found = defaultdict(list)
    for lesson in lessons().values():
        for place, step in enumerate(lesson.steps, 1):
            for row in step.covers:
                found[row].append(f"{lesson.number}.{place}")
    return found


def table() -> str:
    by_cells, by_steps = covered(), proved()
    rows = [
        (
            row,
            what,
            ", ".join(by_cells[row]) or "-",
            ", ".join(by_steps[row]) or WITHOUT_EFFECT.get(row, "-"),
            ", ".join(number for number in TO_BE_WRITTEN if row in PLAN[number]),
        )
        for row, what in ROWS.items()
    ]
    return tabulate(rows, headers=["row", "what", "lesson", "proved by step", "planned"], disable_numparse=True)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{table()}")
        if TO_BE_WRITTEN:
            print(f"\nLESSONS STILL TO BE WRITTEN: {', '.join(TO_BE_WRITTEN)}")


def test_every_row_is_planned_and_every_planned_row_exists() -> None:
    planned = {row for rows in PLAN.values() for row in rows}
    assert planned == set(ROWS)
    assert set(WITHOUT_EFFECT) <= set(ROWS)


def test_every_lesson_is_planned_and_has_its_data() -> None:
    assert set(PLAN) >= WRITTEN, "add the lesson to PLAN"
    assert set(lessons()) == WRITTEN, "a lesson is a notebook and labkit/course/lessonNN.py"


@pytest.mark.parametrize("path", LESSONS, ids=notebook_id)
class TestLesson:
    def test_its_cells_cover_what_is_planned(self, path) -> None:
        missing = [row for row in PLAN[path.name[:2]] if row not in read(path).metadata.labkit.covers]
        assert missing == []

    def test_its_steps_prove_what_is_planned(self, path) -> None:
        number = path.name[:2]
        named = {row for step in lessons()[number].steps for row in step.covers}
        assert [row for row in PLAN[number] if row not in named and row not in WITHOUT_EFFECT] == []

    def test_its_cells_name_rows_that_exist(self, path) -> None:
        assert [row for row in read(path).metadata.labkit.covers if row not in ROWS] == []

    def test_its_title_is_the_one_in_its_data(self, path) -> None:
        meta = read(path).metadata.labkit
        heading = read(path).cells[0].source.splitlines()[0].removeprefix("# ")
        assert heading == meta.title == lessons()[path.name[:2]].title

    def test_each_prediction_is_made_and_compared(self, path) -> None:
        source = "\n".join(cell.source for cell in code_cells(read(path)))
        for name in lessons()[path.name[:2]].predictions:
            assert source.count(f'lab.predict("{name}")') == 1, name
            assert source.count(f'lab.compare("{name}"') == 1, name
            assert source.index(f'lab.predict("{name}")') < source.index(f'lab.compare("{name}"'), name

    def test_its_quiz_stands_before_the_recap(self, path) -> None:
        notebook, number = read(path), path.name[:2]
        ids = [cell.id for cell in notebook.cells]
        quiz = next(cell for cell in code_cells(notebook) if cell.source == f'lab.quiz("{number}")')
        assert ids.index(quiz.id) < ids.index(f"{number}-recap")

    def test_each_of_its_checks_is_used_and_each_step_is_checked(self, path) -> None:
        source = "\n".join(cell.source for cell in code_cells(read(path)))
        for step in lessons()[path.name[:2]].steps:
            for name in step.checks:
                assert f'lab.check("{name}"' in source, name


def test_when_every_lesson_is_written_no_row_is_empty() -> None:
    empty = [row for row in ROWS if not covered()[row]]
    to_come = {row for number in TO_BE_WRITTEN for row in PLAN[number]}
    assert [row for row in empty if row not in to_come] == []
