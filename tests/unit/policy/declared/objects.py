"""Manifests as short as the tables: applications with or without a sidecar, and Istio's objects."""

from __future__ import annotations

from typing import Any

from labkit.policy.declared import Because, DeclaredMesh, Explanation, MeshSettings

Object = dict[str, Any]


def app(namespace: str, name: str, *, sidecar: bool = True, port_name: str = "http", **labels: str) -> list[Object]:
    """A Deployment and its Service on port 8080."""
    labels = {"app": name, "sidecar.istio.io/inject": "true" if sidecar else "false", **labels}
    pod = {"serviceAccountName": name, "containers": [{"name": "app", "ports": [{"containerPort": 8080}]}]}
    metadata = {"namespace": namespace, "name": name}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
        },
        service(namespace, name, port_name=port_name),
    ]


def service(namespace: str, name: str, *, port_name: str = "http", **spec: Any) -> Object:
    """A Service before the pods whose label `app` is its name."""
    ports = [{"name": port_name, "port": 8080}]
    metadata = {"namespace": namespace, "name": name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": {"app": name}, "ports": ports, **spec},
    }


def istio(kind: str, namespace: str, name: str, **spec: Any) -> Object:
    """One of Istio's objects."""
    group = "security" if kind in ("PeerAuthentication", "AuthorizationPolicy") else "networking"
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def peers(mode: str, namespace: str = "foo", name: str = "default", **spec: Any) -> Object:
    return istio("PeerAuthentication", namespace, name, mtls={"mode": mode}, **spec)


def rule(host: str, mode: str, namespace: str = "foo", name: str = "rule", **tls: Any) -> Object:
    return istio("DestinationRule", namespace, name, host=host, trafficPolicy={"tls": {"mode": mode, **tls}})


def selecting(name: str) -> Object:
    return {"selector": {"matchLabels": {"app": name}}}


WEB = app("foo", "web")
CLIENT = app("foo", "client")
NAKED = app("bar", "naked", sidecar=False)
WORLD = [*WEB, *CLIENT, *NAKED]
"""foo/web and foo/client with sidecars, bar/naked without."""


def explain(
    *objects: Object, client: str = "foo/client", server: str = "foo/web", request: Any = None, **settings: Any
) -> Explanation:
    """One call in WORLD with more objects."""
    return DeclaredMesh([*WORLD, *objects], MeshSettings(**settings)).explain(client, server, 8080, request)


def step(found: Explanation, rule: Any) -> Because:
    """The step of an explanation by a rule."""
    return next(one for one in found.answer.because if one.rule is rule)
