"""What all commands have in common: `--json`, help, and no option without a word on it."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from labkit.cli import main


def commands(group: click.Group = main, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            yield from commands(one, f"{path}{name} ")
        else:
            yield f"{path}{name}", one


ALL = dict(commands())


def test_they_are_found() -> None:
    assert {"explain", "mesh install", "describe pod", "proxy-config"} <= {*ALL}


@pytest.mark.parametrize("name", sorted({*ALL} - {"lab"}))
def test_each_answers_in_json(name: str) -> None:
    options = {option for one in ALL[name].params for option in one.opts}
    assert "--json" in options


@pytest.mark.parametrize("name", sorted(ALL))
def test_each_says_what_it_does_and_what_it_changes_with_an_option(name: str) -> None:
    assert ALL[name].help
    silent = [one.opts[-1] for one in ALL[name].params if isinstance(one, click.Option) and not one.help]
    assert set(silent) <= {"--output", "--format", "--layer"}, "what is said by its choices"
