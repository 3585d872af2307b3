"""Ctrl-C, and a lesson that there is not: what is said, and what is left behind."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from labkit.cli import main
from labkit.cli.shared import INTERRUPTED, LabGroup


def _program() -> click.Group:
    @click.group(cls=LabGroup)
    def program() -> None: ...

    def interrupted() -> None:
        raise KeyboardInterrupt

    for name in ("world", "metrics"):
        program.command(name)(interrupted)
    program.command("done")(lambda: None)
    return program


@pytest.mark.parametrize(
    ("command", "said"), [("world", "the same command again does the rest"), ("metrics", "nothing was changed")]
)
def test_ctrl_c_says_what_is_left(command: str, said: str) -> None:
    ended = CliRunner().invoke(_program(), [command])
    assert (ended.exit_code, said in ended.output) == (INTERRUPTED, True), ended.output
    assert "Traceback" not in ended.output and "Aborted" not in ended.output


def test_what_is_not_interrupted_says_nothing() -> None:
    ended = CliRunner().invoke(_program(), ["done"])
    assert (ended.exit_code, ended.output) == (0, "")


@pytest.mark.parametrize(
    "words", [["world", "99"], ["solve", "99"], ["reset", "99"], ["drill", "start", "none"], ["drill", "check", "none"]]
)
def test_no_cluster_is_started_for_what_there_is_not(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    ended = CliRunner().invoke(main, words)
    assert (ended.exit_code, "There is no " in ended.output) == (2, True), ended.output
    assert not [*tmp_path.iterdir()], "nothing half done"


def test_help_tells_the_exit_codes() -> None:
    shown = CliRunner().invoke(main, ["--help"]).output
    for code in ("0 ", "1 ", "2 ", "3 ", "70 ", "130 "):
        assert f"\n    {code}" in shown
