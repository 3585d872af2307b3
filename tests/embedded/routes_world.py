"""A mesh for routes: two versions of a server behind one service, another service before both, and a client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.embedded.envoy_world import Curled, Mesh, curl, wait_for

Object = dict[str, Any]
HTTP, TCP = 8001, 8002
HOST = "reviews.foo.svc.cluster.local"
SUBSETS = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]


@contextmanager
def routed_mesh(name: str) -> Iterator[Mesh]:
    """Pods, services and applications, up while the block lasts."""
    with Mesh(name) as mesh:
        build(mesh)
        yield mesh


def build(mesh: Mesh) -> None:
    for version in ("v1", "v2"):
        mesh.pod(f"reviews-{version}", ports=(HTTP, TCP), labels={"app": "reviews", "version": version})
        mesh.http_app(f"reviews-{version}", HTTP)
        mesh.tcp_app(f"reviews-{version}", TCP)
    mesh.pod("sleep")
    ports = ({"port": HTTP, "name": "http"}, {"port": TCP, "name": "tcp"})
    mesh.service("reviews", *ports)
    mesh.service("other", {"port": HTTP, "name": "http"}, app="reviews")
    mesh.push()
    wait_for("the service", lambda: call(mesh).status == 200)


def clean_up(mesh: Mesh) -> None:
    """Remove all rules and routes, and wait until nobody follows them."""
    mesh.remove("VirtualService", "DestinationRule")
    wait_for("the default route", lambda: call(mesh, "/clean").status == 200)


def route(mesh: Mesh, *http: Object, **spec: Any) -> None:
    mesh.apply("VirtualService", {"hosts": ["reviews"], "http": list(http), **spec})


def to(subset: str = "", weight: int | None = None, host: str = "reviews", **more: Any) -> Object:
    destination = {"host": host, **({"subset": subset} if subset else {})}
    return {"destination": destination, **({} if weight is None else {"weight": weight}), **more}


def call(mesh: Mesh, path: str = "/", *options: str, service: str = "reviews") -> Curled:
    return curl(mesh.seen_from("sleep", service), HTTP, path, *options)


def version(answer: Curled) -> str:
    """Which server answered: the identity in its own X-Forwarded-Client-Cert header says `By`."""
    if answer.status != 200:
        return str(answer.status)
    header = str(answer.json["headers"]["x-forwarded-client-cert"])
    return next(part[-2:] for part in header.split(";") if part.startswith("By="))


def versions(mesh: Mesh, count: int = 12, *options: str) -> Counter[str]:
    return Counter(version(call(mesh, "/", *options)) for _ in range(count))


def becomes(mesh: Mesh, what: str, is_so: Callable[[], bool]) -> None:
    wait_for(what, is_so)
    assert is_so(), "it does not only pass by"
