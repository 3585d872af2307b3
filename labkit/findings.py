"""What an examination of the machine found. Plain data; `doctor` and `embedded.machine` fill it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `needed` tells a lack that stops the lessons from one that takes away a comfort.

    `mend` is the command or the act that makes it good.
    """

    subject: str
    ok: bool
    needed: bool
    seen: str
    mend: str = ""
