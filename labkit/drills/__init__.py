"""Broken meshes to practise on. A module of this package with a `DRILL` is one drill; a new drill is a new file."""

from __future__ import annotations

import importlib
import pkgutil
from difflib import get_close_matches
from functools import cache

from labkit.drills.model import Drill, Expectation
from labkit.errors import InputError

__all__ = ["Drill", "Expectation", "drills", "find_drill"]


@cache
def drills() -> dict[str, Drill]:
    """All drills by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    found: list[Drill] = [module.DRILL for module in modules if hasattr(module, "DRILL")]
    return {drill.name: drill for drill in found}


def find_drill(name: str) -> Drill:
    """A drill by its name. Raises InputError, which lists them."""
    known = drills()
    if name in known:
        return known[name]
    near = get_close_matches(str(name), known, n=1)
    raise InputError(
        f"There is no drill {name!r}.",
        meaning=f"Drills: {', '.join(known)}.",
        next_step=f"Did you mean {near[0]!r}?" if near else "Take one of these names.",
        name=name,
    )
