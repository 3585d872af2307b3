"""Which fields of Istio's objects change nothing: every field of every schema, written into a small mesh.

A field counts as acted on when writing it, or another value, changes a document of any proxy, what injection makes of
a pod, or what stands in the way of the object. The rest must be in `labkit.policy.support`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.embedded.controlplane.injection import InjectionSettings, inject
from labkit.embedded.controlplane.kinds import KINDS
from labkit.embedded.controlplane.state import State
from labkit.embedded.controlplane.translation import gateway_tls
from labkit.embedded.controlplane.translation.proxy import make_proxy_config
from labkit.errors import InputError
from labkit.installers.embedded import Installation
from tests.unit.controlplane.objects import make_pod, make_service, make_state

Object = dict[str, Any]
Path_ = tuple[str, ...]
"""The steps to a field: names, `[]` into a list, `*` into a map."""

DIRECTORY = Path("/xds")
CREATED = "2026-01-01T00:00:00Z"

# What is tried where a test names nothing better.
STRINGS = ("a", "2s", "10.0.0.0/8")
NUMBERS = (1, 8000)


def schemas() -> dict[str, Object]:
    """The schema of each kind's spec."""
    return {
        crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for crd in Installation().crds()
    }


# Walking a schema


def leaves(schema: Object, path: Path_ = ()) -> Iterator[tuple[Path_, Object]]:
    """Every field that has no fields of its own."""
    kind = schema.get("type")
    if kind == "object" and schema.get("properties"):
        for name, inner in schema["properties"].items():
            yield from leaves(inner, (*path, name))
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        yield from leaves(schema["additionalProperties"], (*path, "*"))
    elif kind == "array":
        yield from leaves(schema["items"], (*path, "[]"))
    else:
        yield path, schema


def dotted(path: Path_) -> str:
    """As `support` writes it."""
    return ".".join(["spec", *(step for step in path if step != "[]")])


def smallest(schema: Object) -> Any:
    """A value with what is required and nothing else."""
    if schema.get("enum"):
        return schema["enum"][-1]
    kind = schema.get("type")
    if kind == "object":
        return {name: smallest(schema["properties"][name]) for name in schema.get("required") or ()}
    return {"array": [], "integer": 1, "number": 1, "boolean": True}.get(str(kind), "a")


def candidates(schema: Object) -> Sequence[Any]:
    """Values to try."""
    if schema.get("enum"):
        return tuple(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        return ({"x": 1}, {"y": 2})
    return {"integer": NUMBERS, "number": NUMBERS, "boolean": (True, False)}.get(str(kind), STRINGS)


def written(schema: Object, base: Any, path: Path_, value: Any, key: str) -> Any:
    """The base with a value at a path. What lists and maps on the way hold already is changed, not added to."""
    if not path:
        return value
    step, *rest = path
    if step == "[]":
        items = list(base or [smallest(schema["items"])])
        return [written(schema["items"], items[0], tuple(rest), value, key), *items[1:]]
    if step == "*":
        table = dict(base or {})
        name = next(iter(table), key)
        return {**table, name: written(schema["additionalProperties"], table.get(name), tuple(rest), value, key)}
    table = {**smallest(schema), **(base or {})}
    inner = schema["properties"][step]
    return {**table, step: written(inner, table.get(step), tuple(rest), value, key)}


def without(schema: Object, base: Any, path: Path_, key: str) -> Any:
    """The base with all that stands around a field, and not the field."""
    *around, last = path
    parent = schema
    for step in around:
        parent = parent["items"] if step == "[]" else parent["additionalProperties" if step == "*" else "properties"]
        parent = parent[step] if step not in ("[]", "*") else parent
    current: Any = base
    for step in around:
        if step == "[]":
            current = current[0] if current else None
        elif step == "*":
            current = next(iter(current.values()), None) if current else None
        else:
            current = (current or {}).get(step)
    if last in ("[]", "*"):
        return written(schema, base, tuple(around), [] if last == "[]" else {}, key)
    kept = {name: value for name, value in {**smallest(parent), **(current or {})}.items() if name != last}
    return written(schema, base, tuple(around), kept, key)


# The mesh


@dataclass(frozen=True)
class Base:
    """What is written around a field, and the other objects that give it an effect."""

    spec: Object = field(default_factory=dict)
    others: tuple[Object, ...] = ()
    namespace: str = "foo"
    key: str = "version"
    """The key of the first entry of a map."""
    proxies: tuple[str, ...] = ()
    """Those that are looked at; none: the kind's."""


def obj(kind: str, spec: Object, *, name: str = "tried", namespace: str = "foo") -> Object:
    """An object of one of Istio's kinds."""
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": CREATED},
        "spec": spec,
    }


def _gateway_pod() -> Object:
    pod = make_pod("gateway", "istio-system", row=9, labels={"istio": "ingressgateway"}, ports=())
    containers = pod["spec"]["containers"]
    pod["spec"]["containers"] = [{**one, "args": ["proxy", "router"]} for one in containers if one["name"] != "app"]
    return pod


SERVER = make_pod("server", row=5, labels={"version": "v1"}, ports=(8080, 9090, 9443))
PODS = (
    SERVER,
    make_pod("server-2", row=6, labels={"app": "server", "version": "v2"}, ports=(8080, 9090, 9443)),
    make_pod("client", row=7, labels={"version": "v1"}),
    make_pod("other", "bar", row=8),
    _gateway_pod(),
)
SERVICES = (
    make_service(
        "server",
        ports=(
            {"name": "http", "port": 8000, "targetPort": 8080},
            {"name": "tcp-data", "port": 9000, "targetPort": 9090},
            {"name": "tls-raw", "port": 9443, "targetPort": 9443},
        ),
    ),
    make_service("client", column=21),
)
RAW = make_pod("raw", ports=(8080,), sidecar=False)


def state_with(objects: Sequence[Object]) -> State:
    """istiod's state. Raises InputError where an object cannot be read."""
    state = make_state(*PODS, services=SERVICES)
    for one in objects:
        KINDS[one["kind"]].read(one)
        state.on_config(one["kind"], "ADDED", one)
    return state


def effect(objects: Sequence[Object], proxies: Sequence[str]) -> str:
    """All that follows from these objects, for these pods."""
    state = state_with(objects)
    snapshot = state.snapshot()
    found: list[Any] = []
    for proxy in (one for key, one in state.sidecars.items() if key[1] in proxies):
        config = make_proxy_config(snapshot, proxy, DIRECTORY)
        found += [config.listeners_file(), config.clusters_file()]
        if proxy.gateway:
            found += [gateway_tls.file_secrets(snapshot, proxy), gateway_tls.credentials_of(snapshot, proxy)]
    found += [sorted(map(repr, one.sources.items())) for one in state.configs("RequestAuthentication")]
    injection = InjectionSettings("default", proxy_configs=state.configs("ProxyConfig"))
    found.append(inject(deepcopy(RAW), "foo", injection))
    return json.dumps(found, default=repr)


@dataclass(frozen=True)
class Trial:
    """The fields of one kind, in its bases."""

    kind: str
    bases: tuple[Base, ...]
    proxies: tuple[str, ...] = ("client", "server", "gateway")
    special: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values for single fields, tried first."""

    def fields(self, schema: Object, idle: Callable[[str], bool] = lambda _: False) -> Iterator[tuple[str, bool]]:
        """Every field, and whether it changes anything. Of one that is said to be idle only two values are tried."""
        for path, leaf in leaves(schema):
            values = (*self.special.get(dotted(path), ()), *candidates(leaf))
            values = values[:2] if idle(dotted(path)) else values
            yield dotted(path), any(self._matters(schema, base, path, values) for base in self.bases)

    def _matters(self, schema: Object, base: Base, path: Path_, values: Sequence[Any]) -> bool:
        specs = [without(schema, base.spec, path, base.key)]
        specs += [written(schema, base.spec, path, value, base.key) for value in values]
        seen: set[str] = set()
        for spec in specs:
            tried = obj(self.kind, spec, namespace=base.namespace)
            try:
                seen.add(effect([*base.others, tried], base.proxies or self.proxies))
            except (InputError, ValueError, KeyError):
                continue  # refused, with words: never silent
            if len(seen) > 1:
                return True
        return False
