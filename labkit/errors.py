"""Every error that labkit raises on purpose, sorted by whose move it is.

An error says three things: what happened, what it means, what to do next.
In a notebook it is shown as those three lines, never as a traceback.
This module imports nothing of labkit.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def did_you_mean(written: object, known: Iterable[str]) -> str:
    """`Did you mean 'shop'? ` for what is nearly one of the known names, to stand before other advice; else nothing."""
    # Part by part: 'shop/nope' is not nearly 'shop/age', although half of it is the same.
    parts = str(written).split("/")
    alike = [one for one in known if len(one.split("/")) == len(parts) and all(map(_is_near, parts, one.split("/")))]
    near = get_close_matches(str(written), alike, n=1)
    return f"Did you mean {near[0]!r}? " if near and near[0] != written else ""


def _is_near(written: str, known: str) -> bool:
    return bool(get_close_matches(written, [known]))


class LabError(Exception):
    """Base of all errors that a learner, an instructor or a script is meant to read.

    `what` is one sentence; `meaning` and `next_step` may be empty. Further keyword arguments are kept in
    `details`, so that tests and views compare fields and not text. `exit_code` is what the command line returns.
    """

    exit_code = 1

    def __init__(self, what: str, *, meaning: str = "", next_step: str = "", **details: Any) -> None:
        super().__init__(what)
        self.what = what
        self.meaning = meaning
        self.next_step = next_step
        self.details = details

    def lines(self) -> list[str]:
        """The message as lines for people: what happened, what it means, what to do next."""
        lines = [self.what]
        if self.meaning:
            lines.append(f"  What it means: {self.meaning}")
        if self.next_step:
            lines.append(f"  What to do:    {self.next_step}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception for this before it prints a traceback.
        return [f"{type(self).__name__}: {self}"]


class InputError(LabError):
    """The learner's move: a manifest, an argument or a name is wrong. Nothing was changed."""

    exit_code = 2


class MachineError(LabError):
    """The machine's owner's move: a program, a port, a directory or a right is missing."""

    exit_code = 3


class ClusterError(LabError):
    """The cluster cannot be reached, or refused a request. `details` may hold `status`, `reason`."""


class MeshError(LabError):
    """The mesh is not in the state that the request needs (not installed, proxy not ready, rejected update)."""


class WaitTimeoutError(LabError):
    """Something awaited did not happen in time. The message names what was awaited and what was last seen."""


class InternalError(LabError):
    """Our move: a defect in labkit. The message says where the log is."""

    exit_code = 70
