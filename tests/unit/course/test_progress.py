"""What is remembered of a learner: it survives restarts and broken files, and is not kept of runs without a learner."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from click.testing import CliRunner

from labkit.cli import main
from labkit.course import lessons, progress
from labkit.lab.course import show_progress


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LABKIT_CI", raising=False)
    return tmp_path / "home"


def test_what_passed_is_there_after_a_restart(home: Path) -> None:
    progress.record_check("04-strict-declared")
    progress.record_check("04-strict-declared")
    progress.record_answer("04", 1, right=True)
    progress.record_prediction("04.1", right=False)
    known = progress.read_progress()["04"]
    assert known.checks == {"04-strict-declared"}
    assert (known.answers, known.predictions) == ({"1": True}, {"04.1": False})
    assert (home / "progress.json").exists()


def test_the_first_answer_counts() -> None:
    progress.record_answer("04", 1, right=False)
    progress.record_answer("04", 1, right=True)
    assert progress.read_progress()["04"].answers == {"1": False}


def test_nothing_is_kept_of_runs_without_a_learner(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_CI", "1")
    progress.record_check("04-strict-declared")
    assert progress.read_progress() == {}
    assert not home.exists()


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"lessons": 3}', '{"lessons": {"04": null}}', "\x00"])
def test_a_broken_file_is_no_progress_and_no_error(home: Path, content: str) -> None:
    home.mkdir()
    (home / "progress.json").write_text(content)
    assert progress.read_progress() == {}
    progress.record_check("04-strict-declared")
    assert progress.read_progress()["04"].checks


def test_a_home_that_cannot_be_written_costs_the_memory_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "file"))
    progress.record_check("04-strict-declared")
    assert progress.read_progress() == {}


def _record(name: str) -> None:
    progress.record_check(name)


@pytest.mark.timeout(20)
def test_two_notebooks_may_write_at_once() -> None:
    names = [f"04-check-{n}" for n in range(12)]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_record, names)
    assert progress.read_progress()["04"].checks == set(names)


def test_one_lesson_is_forgotten_or_all() -> None:
    progress.record_check("03-permissive")
    progress.record_check("04-strict-declared")
    progress.forget("03")
    assert set(progress.read_progress()) == {"04"}
    progress.forget()
    assert progress.read_progress() == {}


def test_the_table_counts_checks_and_answers_and_names_the_next_lesson() -> None:
    assert show_progress().next_lesson == "00"
    for name in ("00-cluster-answers", "00-no-mesh", "00-first-pod", "00-count-containers", "not-a-check"):
        progress.record_check(name)
    for place in range(1, len(lessons()["00"].quiz) + 1):
        progress.record_answer("00", place, right=True)
    shown = show_progress()
    assert shown.rows[0].done and shown.next_lesson == "01"
    assert "✔ 00 Start the lab" in str(shown) and "lesson 01" in shown._repr_html_()


def test_the_command_line_shows_and_forgets_it() -> None:
    progress.record_check("04-strict-declared")
    rows = json.loads(CliRunner().invoke(main, ["progress", "--json"]).stdout)
    assert next(row for row in rows if row["number"] == "04")["checks"] == 1
    assert "0%" in CliRunner().invoke(main, ["progress", "--forget"]).stdout
    assert progress.read_progress() == {}
