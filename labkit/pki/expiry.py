"""How long certificates still live, and when that is worth a warning. Pure.

A workload's certificate lives a day, and its agent asks for the next one at half time
(https://istio.io/latest/docs/reference/commands/pilot-agent/ SECRET_GRACE_PERIOD_RATIO 0.5). A threshold of a week
would warn of it all its life: of what rotates by itself, one is warned when the rotation is overdue. Roots and the
credentials of gateways nobody replaces but people, so for them the threshold counts alone.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from enum import StrEnum

from labkit.errors import InputError
from labkit.pki.facts import CertificateFacts

WARN_BEFORE = timedelta(days=7)
OVERDUE = 1 / 3
"""What is left of a short life when its successor should long be there: rotation begins at a half."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class State(StrEnum):
    """Where a certificate stands; all but OK are worth a warning."""

    OK = "ok"
    SOON = "expires soon"
    OVERDUE = "rotation overdue"
    EXPIRED = "expired"
    NOT_YET = "not yet valid"
    MISSING = "no certificate"
    UNKNOWN = "no answer"


def state_of(
    certificate: CertificateFacts, now: datetime, warn_before: timedelta = WARN_BEFORE, *, rotates: bool = False
) -> State:
    """The state of a certificate at a moment; one that `rotates` is replaced by an agent."""
    if now > certificate.not_after:
        return State.EXPIRED
    if now < certificate.not_before:
        return State.NOT_YET
    left = certificate.remaining(now)
    if rotates and left < certificate.lifetime * OVERDUE:
        return State.OVERDUE
    threshold_counts = not rotates or certificate.lifetime > warn_before
    return State.SOON if threshold_counts and left < warn_before else State.OK


def parse_duration(text: str | timedelta) -> timedelta:
    """`7d`, `36h`, `90m`, `1w2d`. Raises InputError for anything else."""
    if isinstance(text, timedelta):
        return text
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhdw])", str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text).strip():
        raise InputError(f"{text!r} is no duration.", next_step="Write it like 7d, 36h or 90m.")
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def say_duration(left: timedelta) -> str:
    """`3649d`, `23h58m`, `12m`, `5s`; with `ago` behind it when it is over."""
    seconds = int(abs(left.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600, seconds // 60
    if days >= 3:
        said = f"{days}d"
    elif days:
        said = f"{days}d{hours % 24}h"
    elif hours:
        said = f"{hours}h{minutes % 60}m"
    else:
        said = f"{minutes}m" if minutes else f"{seconds}s"
    return f"{said} ago" if left < timedelta(0) else said
