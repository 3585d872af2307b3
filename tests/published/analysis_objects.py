"""Objects of the analysis rows, in a few words each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labkit.policy.analysis import Message, analyze
from labkit.policy.declared.settings import MeshSettings

Object = dict[str, Any]

_VERSIONS = {"Deployment": "apps/v1"}
_SECURITY = ("PeerAuthentication", "AuthorizationPolicy", "RequestAuthentication")
_CORE = ("Namespace", "Pod", "Service", "Secret", "ServiceAccount")


def an(kind: str, where: str, spec: Object | None = None, **metadata: Any) -> Object:
    """An object of a kind at `namespace/name`; a name alone is in `default`."""
    namespace, _, name = where.rpartition("/")
    known: Object = {"name": name, **({"namespace": namespace} if namespace else {}), **metadata}
    group = "security" if kind in _SECURITY else "networking"
    version = "v1" if kind in _CORE else _VERSIONS.get(kind, f"{group}.istio.io/v1")
    return {"apiVersion": version, "kind": kind, "metadata": known, "spec": spec or {}}


def namespace(name: str, **labels: str) -> Object:
    """A Namespace; `_` in a label's name stands for `-`, `__` for `/` and `.` as in `istio.io/rev`."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(where: str, labels: dict[str, str] | None = None, *, proxy: bool = False, **more: str) -> Object:
    """A Pod with these labels, with or without a proxy."""
    containers = [{"name": "server", "image": "server"}]
    if proxy:
        containers.append({"name": "istio-proxy", "image": "docker.io/istio/proxyv2"})
    return an("Pod", where, {"containers": containers}, labels={**(labels or {}), **more})


def deployment(where: str, *, spec: Object | None = None, annotations: Object | None = None, **labels: str) -> Object:
    """A Deployment whose pods have these labels."""
    template = {
        "metadata": {"labels": labels, "annotations": annotations or {}},
        "spec": {"containers": [{"name": "server", "image": "server"}], **(spec or {})},
    }
    return an("Deployment", where, {"selector": {"matchLabels": labels}, "template": template})


def service(where: str, *ports: Any, selector: Object | None = None, **metadata: Any) -> Object:
    """A Service; a port is a number, or a dict."""
    written = [{"port": one, "name": f"http-{one}"} if isinstance(one, int) else one for one in ports]
    return an("Service", where, {"ports": written, "selector": selector or {}}, **metadata)


def route(*destinations: Any, **spec: Any) -> Object:
    """The spec of a VirtualService with one HTTP route; a destination is a host, `host+subset`, or a dict."""
    return {
        "hosts": ["example"],
        "http": [{"route": [{"destination": destination(one)} for one in destinations]}],
        **spec,
    }


def destination(written: Any) -> Object:
    """`host`, `host+subset`, or a dict as it is."""
    if not isinstance(written, str):
        return dict(written)
    host, _, subset = written.partition("+")
    return {"host": host, **({"subset": subset} if subset else {})}


def server(port: int, *hosts: str, protocol: str = "HTTP", **more: Any) -> Object:
    """One server of a Gateway."""
    return {
        "port": {"number": port, "name": f"{protocol.lower()}-{port}", "protocol": protocol},
        "hosts": [*hosts],
        **more,
    }


def messages(objects: Iterable[Object], *codes: str, from_files: bool = True, **settings: Any) -> list[Message]:
    """What the analysis says, of some codes or of all."""
    found = analyze(objects, MeshSettings(**settings), from_files=from_files)
    return [one for one in found if not codes or one.code.code in codes]


def said(objects: Iterable[Object], *codes: str, **settings: Any) -> list[str]:
    """The same as `CODE Kind namespace/name`, in the order of names."""
    return sorted(f"{one.code.code} {one.origin}" for one in messages(objects, *codes, **settings))
