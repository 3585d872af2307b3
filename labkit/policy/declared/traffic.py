"""How much was seen on which edge: a plain mapping, whoever looked.

A key is `("namespace/client", "namespace/server:port")`, or the same as a text with an arrow between; the port may be
left out. The value is in requests per minute. The client `unknown` stands for callers that showed no certificate, and
whom the server's proxy therefore cannot name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.errors import InputError

Traffic = Mapping[tuple[str, str], float]

UNKNOWN = "unknown"


def read_traffic(written: Mapping[Any, Any]) -> Traffic:
    """Traffic from a mapping with keys of either form. Raises InputError for other keys and values."""
    found: dict[tuple[str, str], float] = {}
    for key, value in written.items():
        pair = tuple(part.strip() for part in key.split("->")) if isinstance(key, str) else key
        good = isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, str) and part for part in pair)
        if not good or isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(
                f"{key!r}: {value!r} says nothing of the traffic of an edge.",
                meaning="Traffic is requests per minute by edge.",
                next_step='Write it as {"shop/client -> shop/server:8080": 120}.',
            )
        client, server = pair
        found[client, server] = found.get((client, server), 0.0) + float(value)
    return found


def rate_of(traffic: Traffic | None, client: str, server: str, *, named: bool = True) -> float | None:
    """What was seen on an edge: 0 where somebody looked and saw nothing, None where that cannot be told: nobody looked,
    or the client cannot be named (it has no sidecar) and somebody unnamed calls the server.
    """
    if traffic is None:
        return None
    name = client.partition(" ")[0]  # a workload some of whose pods differ is seen under one name
    found = _of(traffic, name, server)
    if found is None and not named and _of(traffic, UNKNOWN, server):
        return None
    return found or 0.0


def _of(traffic: Traffic, client: str, server: str) -> float | None:
    exact = traffic.get((client, server))
    return exact if exact is not None else traffic.get((client, server.rpartition(":")[0]))
