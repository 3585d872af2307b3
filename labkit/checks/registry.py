"""The checks by name, gathered from the modules `lesson00`, `lesson01`, ...: a new lesson is a new file."""

from __future__ import annotations

import importlib
import pkgutil
import re
from difflib import get_close_matches
from pathlib import Path

from labkit.checks.results import Check
from labkit.errors import InputError


def _gathered() -> dict[str, Check]:
    names = sorted(
        m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if re.fullmatch(r"lesson\d\d", m.name)
    )
    modules = [importlib.import_module(f"labkit.checks.{name}") for name in names]
    return {check.name: check for module in modules for check in module.CHECKS}


CHECKS: dict[str, Check] = _gathered()


def checks_of(lesson: str) -> list[Check]:
    """The checks of one lesson, in its order."""
    return [check for name, check in CHECKS.items() if name.startswith(f"{lesson[:2]}-")]


def find_check(name: str) -> Check:
    """The check by name. Raises InputError, which lists the names of its lesson."""
    if name in CHECKS:
        return CHECKS[name]
    near = get_close_matches(str(name), CHECKS, n=1)
    of_lesson = [check.name for check in checks_of(str(name))] or list(CHECKS)
    raise InputError(
        f"There is no check {name!r}.",
        meaning=f"Checks: {', '.join(of_lesson)}.",
        next_step=f"Did you mean {near[0]!r}?" if near else "Take one of these names.",
        name=name,
    )
