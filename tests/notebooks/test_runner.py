"""The runner: a lesson that did not run to its end, or whose check failed, is a failure; each in one tiny notebook."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from junitparser import JUnitXml

from labkit import runner
from labkit.cli import main
from labkit.errors import InputError, MachineError

PASSED = """
import json, os
with open(os.environ["LABKIT_RESULTS"], "a") as results:
    results.write(json.dumps({"name": "n", "passed": %s, "pending": %s, "expected": "e", "observed": "o"}) + "\\n")
"""


def run_cells(tmp_path: Path, *cells: str) -> tuple[runner.LessonRun, Path]:
    """Run a notebook made of these cells, on no cluster at all."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    lesson = tmp_path / "00_tiny.ipynb"
    nbformat.write(notebook, lesson)
    output = tmp_path / "out"
    return runner.run_lessons([lesson], output, cluster="none", progress=False)[0], output


def test_a_lesson_that_runs_to_its_end_passes_and_is_reported(tmp_path: Path) -> None:
    run, output = run_cells(tmp_path, "1 + 1", PASSED % (True, False))
    assert run.ok and run.cells == 2
    assert (output / "index.html").read_text().count("00_tiny.html") == 1
    assert (output / "00_tiny.html").exists()
    suites = list(JUnitXml.fromfile(str(output / "junit.xml")))
    assert [(s.tests, s.failures) for s in suites] == [(2, 0)]


def test_the_pictures_of_a_lesson_are_inside_its_page(tmp_path: Path) -> None:
    lessons = tmp_path / "notebooks"
    (tmp_path / "assets").mkdir()
    lessons.mkdir()
    (tmp_path / "assets" / "map.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    text = "![a map](../assets/map.svg) ![none](../assets/none.svg)"
    executed = tmp_path / "out" / "00_tiny.ipynb"
    executed.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)]), executed)
    runner.write_html([runner.LessonRun(lessons / "00_tiny.ipynb", executed)], executed.parent)
    page = (executed.parent / "00_tiny.html").read_text()
    assert "data:image/svg+xml;base64," in page and "../assets/map.svg" not in page
    assert "../assets/none.svg" in page, "one that is not there stays a link"


def test_a_failed_check_fails_the_lesson_although_no_cell_raised(tmp_path: Path) -> None:
    run, output = run_cells(tmp_path, PASSED % (False, False))
    assert not run.ok and not run.failure
    assert [s.failures for s in JUnitXml.fromfile(str(output / "junit.xml"))] == [1]
    assert "FAILED" in runner.summary([run])


def test_an_unsolved_exercise_is_not_a_failure(tmp_path: Path) -> None:
    run, output = run_cells(tmp_path, PASSED % (False, True))
    assert run.ok
    assert [(s.failures, s.skipped) for s in JUnitXml.fromfile(str(output / "junit.xml"))] == [(0, 1)]


def test_an_exception_in_a_cell_fails_the_lesson(tmp_path: Path) -> None:
    run, _ = run_cells(tmp_path, "1 / 0", "2")
    assert not run.ok
    assert "ZeroDivisionError" in run.failure


def test_a_silent_exit_that_leaves_cells_pending_fails_the_lesson(tmp_path: Path) -> None:
    run, _ = run_cells(tmp_path, "raise SystemExit(0)", "2")
    assert not run.ok
    assert run.failure


def test_a_cell_that_never_ends_fails_the_lesson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CELL_TIMEOUT", 1)
    run, _ = run_cells(tmp_path, "import threading; threading.Event().wait()")
    assert not run.ok


def test_a_lesson_that_does_not_exist_is_one_clear_error() -> None:
    with pytest.raises(InputError) as caught:
        runner.find_lessons(Path(__file__).parents[2], ["77"])
    assert "77" in caught.value.what


def test_a_directory_without_lessons_is_named_and_nothing_is_written_there(tmp_path: Path) -> None:
    for names in ((), ("04",)):
        with pytest.raises(InputError) as caught:
            runner.find_lessons(tmp_path, names)
        assert str(tmp_path) in caught.value.what
    assert not list(tmp_path.iterdir())


def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    with pytest.raises(MachineError) as caught:
        runner.run_lessons([], tmp_path / "out", cluster="none", progress=False)
    assert caught.value.details["path"] == str(tmp_path / "out")


def test_cells_that_were_not_executed_are_named() -> None:
    done = {"metadata": {"papermill": {"status": "completed"}}}
    pending = {"metadata": {"papermill": {"status": "pending"}}}
    assert runner.unexecuted([done, done]) == ""
    assert "2 of 2" in runner.unexecuted([done, pending])
    assert runner.unexecuted([]) != ""


def two_notebooks(tmp_path: Path) -> list[Path]:
    """A lesson and its solutions, of one cell each, that run on no cluster."""
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    paths = [tmp_path / "notebooks" / "00_tiny.ipynb", tmp_path / "notebooks" / "solutions" / "00_tiny.ipynb"]
    for path in paths:
        nbformat.write(notebook, path)
    return paths


def test_solutions_follow_their_lesson_when_they_are_asked_for(tmp_path: Path) -> None:
    lesson, solved = two_notebooks(tmp_path)
    assert runner.find_lessons(tmp_path) == [lesson]
    assert runner.find_lessons(tmp_path, solutions=True) == [lesson, solved]
    assert runner.find_lessons(tmp_path, ["00"], solutions=True) == [lesson, solved]


def test_a_lesson_and_its_solutions_have_pages_of_their_own(tmp_path: Path) -> None:
    runs = runner.run_lessons(two_notebooks(tmp_path), tmp_path / "out", cluster="none", progress=False)
    assert [run.label for run in runs] == ["00_tiny", "solutions/00_tiny"]
    assert (tmp_path / "out" / "00_tiny.html").exists() and (tmp_path / "out" / "solutions" / "00_tiny.html").exists()
    index = (tmp_path / "out" / "index.html").read_text()
    assert 'href="00_tiny.html"' in index and 'href="solutions/00_tiny.html"' in index


@pytest.mark.slow
def test_two_jobs_run_every_notebook_once_and_report_in_order(tmp_path: Path) -> None:
    runs = runner.run_lessons(two_notebooks(tmp_path), tmp_path / "out", progress=False, jobs=2)
    assert [(run.label, run.ok) for run in runs] == [("00_tiny", True), ("solutions/00_tiny", True)]
    assert [suite.tests for suite in JUnitXml.fromfile(str(tmp_path / "out" / "junit.xml"))] == [1, 1]


def test_a_cluster_that_is_not_there_is_said_before_any_lesson_starts(tmp_path: Path):
    done = CliRunner().invoke(main, ["run", "--cluster", "nope", "--output", str(tmp_path / "out"), "04"])
    assert done.exit_code != 0 and "kubeconfig" in done.output
    assert not (tmp_path / "out").exists()
