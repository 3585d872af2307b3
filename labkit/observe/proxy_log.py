"""The levels of a proxy's loggers, read and set on its admin interface: `istioctl proxy-config log`.

https://www.envoyproxy.io/docs/envoy/latest/operations/admin#post--logging
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping

from labkit.cluster import Cluster, Obj
from labkit.errors import InputError
from labkit.observe.objects import PROXY, sidecars_first
from labkit.observe.proxy import ask_pod

LEVELS = ("trace", "debug", "info", "warning", "error", "critical", "off")
DEFAULT_LEVEL = "warning"

_OTHER_WORDS = {"warn": "warning", "none": "off"}


def parse_levels(text: str) -> dict[str, str]:
    """`upstream: debug` lines below `active loggers:` as a mapping."""
    found = (re.fullmatch(r"\s+([\w./]+): (\w+)", line) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}


def parse_wish(wish: str) -> dict[str, str]:
    """`debug` as {"": "debug"} (all loggers), `rbac:debug,http:info` by logger. Raises InputError for other levels."""
    wanted: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in str(wish).split(","))):
        name, _, level = part.rpartition(":")
        level = _OTHER_WORDS.get(level.lower(), level.lower())
        if level not in LEVELS:
            raise InputError(
                f"{level!r} is no level of a log.",
                next_step=f"Write one of {', '.join(LEVELS)}, for one logger 'rbac:debug'.",
            )
        wanted[name.strip()] = level
    if not wanted:
        raise InputError("No level was given.", next_step="Write 'debug', or 'rbac:debug,http:info'.")
    return wanted


def check_loggers(wanted: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Raise InputError for a logger that the proxy does not have."""
    for name in wanted:
        if name and name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else "Some for mTLS: upstream, connection, rbac."
            raise InputError(f"The proxy has no logger {name!r}.", meaning="Nothing was changed.", next_step=hint)


def started_with(pod: Obj) -> dict[str, str]:
    """The levels that the pod's proxy was started with: `--proxyLogLevel` and `--proxyComponentLogLevel`."""
    found = {"": DEFAULT_LEVEL}
    arguments: list[str] = next(
        ([str(a) for a in one.get("args") or ()] for one in sidecars_first(pod) if one["name"] == PROXY), []
    )
    flat = [part for one in arguments for part in (one.split("=", 1) if one.startswith("--") else [one])]
    for flag, value in itertools.pairwise(flat):
        if flag in ("--proxyLogLevel", "--log_level") and value in (*LEVELS, *_OTHER_WORDS):
            found[""] = _OTHER_WORDS.get(value, value)
        elif flag == "--proxyComponentLogLevel":
            found.update({k: v for k, v in parse_wish(value).items() if k})
    return found


def read_levels(cluster: Cluster, pod: Obj) -> dict[str, str]:
    """The level of every logger."""
    return parse_levels(ask_pod(cluster, pod, "logging", method="POST"))


def set_levels(cluster: Cluster, pod: Obj, wanted: Mapping[str, str]) -> dict[str, str]:
    """Set the levels, all loggers (the empty name) first; returns what holds then."""
    known = read_levels(cluster, pod)
    check_loggers(wanted, known)
    if "" in wanted:
        known = parse_levels(ask_pod(cluster, pod, f"logging?level={wanted['']}", method="POST"))
    if single := ",".join(f"{name}:{level}" for name, level in wanted.items() if name):
        known = parse_levels(ask_pod(cluster, pod, f"logging?paths={single}", method="POST"))
    return known
