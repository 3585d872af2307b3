"""What `labkit lab` starts: JupyterLab on a lesson, with the options that follow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from labkit.cli import main


@pytest.mark.parametrize(
    ("arguments", "lesson", "options"),
    [
        ([], "00_start_here", []),
        (["04", "--no-browser"], "04_enforce_strict", ["--no-browser"]),
        (["--no-browser", "--port", "8899"], "00_start_here", ["--no-browser", "--port", "8899"]),
    ],
)
def test_options_without_a_lesson_open_the_first_one(
    arguments: list[str], lesson: str, options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[list[str]] = []
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.setattr(os, "execve", lambda program, command, environment: started.append(command))
    done = CliRunner().invoke(main, ["lab", *arguments])
    assert done.exit_code == 0, done.output
    command = started[0]
    place = next(number for number, part in enumerate(command) if part.startswith("--LabApp.default_url="))
    assert lesson in command[place]
    assert command[place + 1 :] == options


def test_a_lesson_that_is_not_there_is_refused() -> None:
    done = CliRunner().invoke(main, ["lab", "99"])
    assert done.exit_code == 2
    assert "There is no lesson '99'" in done.output
