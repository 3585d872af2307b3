"""Runs one command of a recipe, or says why it is not run. A missing program or login is an answer, never an error."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from labkit.installers.recipes import TOOLS, Command, Recipe

LOGIN_SECONDS = 20.0
RUN_SECONDS = 900.0
"""`az aks mesh enable` takes several minutes."""


@dataclass(frozen=True)
class Ran:
    """What a program did: its exit code, and what it said."""

    code: int
    said: str


Find = Callable[[str], str | None]
Run = Callable[[str, float], Ran]


def run_line(line: str, limit: float) -> Ran:
    """Run a line with the machine's shell. Recipes quote what they are filled in with."""
    try:
        done = subprocess.run(
            ["sh", "-c", line], capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Ran(124, f"it took longer than {limit:.0f} s")
    return Ran(done.returncode, (done.stdout.strip() or done.stderr.strip()))


@dataclass(frozen=True)
class Machine:
    """How programs are found and run; tests hand in others."""

    find: Find = shutil.which
    run: Run = field(default=run_line)


def missing(recipe: Recipe, machine: Machine) -> dict[str, str]:
    """Each program of the recipe that this machine does not have -> the page that has it."""
    names = dict.fromkeys(command.tool for command in recipe.commands)
    return {name: TOOLS[name].source for name in names if machine.find(name) is None}


def outcome(command: Command, machine: Machine) -> tuple[str, str]:
    """Run one command: ("refused", why) without its program or its login, else ("done" or "failed", what it said)."""
    tool = TOOLS[command.tool]
    if machine.find(tool.name) is None:
        return "refused", f"{tool.name} is not on this machine: {tool.source}"
    if unfinished(command):
        return "refused", f"fill in {unfinished(command)} first: an earlier command says it"
    if tool.logged_in and machine.run(tool.logged_in, LOGIN_SECONDS).code != 0:
        return "refused", f"nobody is logged in: {tool.login}"
    ran = machine.run(command.line, RUN_SECONDS)
    if ran.code == 0:
        return "done", ran.said or "it said nothing"
    return "failed", f"exit code {ran.code}: {ran.said}"


def unfinished(command: Command) -> str:
    """What still has to be filled in: the name between < and >, or nothing."""
    _, opening, rest = command.line.partition("<")
    name, closing, _ = rest.partition(">")
    return f"{name.replace(' ', '_')}" if opening and closing else ""
