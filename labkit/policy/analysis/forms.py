"""Objects that are well, to find out which other one is not: beside them every rule has something to compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]

_LABELS = {"app": "probe"}


def probes(obj: Object) -> list[Object]:
    """One object of each kind that rules hold against others, in the namespace of `obj`."""
    metadata = obj.get("metadata")
    namespace = str(metadata.get("namespace") or "default") if isinstance(metadata, Mapping) else "default"
    route = {"destination": {"host": "probe", "subset": "probe"}}
    specs: dict[str, dict[str, Any]] = {
        "Service": {"selector": _LABELS, "ports": [{"port": 80, "name": "http"}]},
        "Pod": {"containers": [{"name": "probe"}, {"name": "istio-proxy", "image": "proxy"}]},
        "VirtualService": {"hosts": ["probe"], "gateways": ["probe", "mesh"], "http": [{"route": [route]}]},
        "DestinationRule": {"host": "*.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}},
        "Gateway": {"selector": _LABELS, "servers": [{"port": {"number": 80}, "hosts": ["*"], "tls": {}}]},
        "AuthorizationPolicy": {
            "selector": {"matchLabels": _LABELS},
            "rules": [
                {
                    "from": [{"source": {"principals": ["probe*"], "namespaces": ["probe"]}}],
                    "to": [{"operation": {"hosts": ["*probe"], "methods": ["GET"]}}],
                }
            ],
        },
        "PeerAuthentication": {"selector": {"matchLabels": _LABELS}, "mtls": {"mode": "STRICT"}},
        "RequestAuthentication": {"selector": {"matchLabels": _LABELS}},
        "Sidecar": {"workloadSelector": {"labels": _LABELS}},
        "ServiceEntry": {"hosts": ["*.probe"], "ports": [{"number": 80, "protocol": "HTTP"}]},
    }
    return [
        {
            "kind": kind,
            "metadata": {"name": "labkit-probe", "namespace": namespace, "labels": _LABELS},
            "spec": spec,
        }
        for kind, spec in specs.items()
    ]
