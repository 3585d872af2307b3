"""The way of an administrator: through the API server, into a pod."""

from __future__ import annotations

from typing import Any

from labkit.cluster import Cluster
from labkit.observe.forwarded import ask_through_forward
from labkit.outcomes import Observation


class Forwarding:
    """What Lab can ask behind a sidecar's back.

    lab.port_forward("shop/web", 80, "/")   one request through kubectl port-forward; data= makes it a POST
    """

    cluster: Cluster

    def port_forward(self, workload: str, port: int, path: str = "/", *, data: Any = None) -> Observation:
        """One request as through `kubectl port-forward`: to the application itself, past its sidecar."""
        return ask_through_forward(self.cluster, workload, port, path, data=data)
