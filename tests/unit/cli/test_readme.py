"""The README's commands on this repository's own files do what is written beside them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from labkit.cli import main

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
HERE = dict(re.findall(r"^labkit (.*--from manifests/[^#]*?) +# (.*)$", TEXT, re.MULTILINE))
SAID = {"five steps": "5 steps to STRICT", "one call, in plaintext": "Encryption map: 1 plaintext"}


def test_there_are_such_commands() -> None:
    assert set(HERE.values()) == set(SAID)


@pytest.mark.parametrize("line", HERE)
def test_they_say_what_the_readme_says(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(main, shlex.split(line))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(SAID[HERE[line]])


@pytest.mark.parametrize("line", re.findall(r"(?:^|[|`(] ?)labkit ([a-z][^`#|\n)]*)", TEXT, re.MULTILINE))
def test_each_command_of_the_readme_and_its_options_exist(line: str) -> None:
    words, command = shlex.split(line), main
    while words and isinstance(command, click.Group):
        name, *words = words
        assert name in command.commands, line
        command = command.commands[name]  # type: ignore[assignment]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    assert {word for word in words if re.match(r"--?[a-z]", word)} <= known, line
