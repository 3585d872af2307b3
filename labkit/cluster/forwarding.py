"""A connection to a port of a pod through the API server (`pods/portforward`), as `kubectl port-forward` has it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from labkit.cluster import problems
from labkit.cluster.kinds import POD
from labkit.cluster.transport import Transport
from labkit.errors import ClusterError


@contextlib.contextmanager
def forward(transport: Transport, pod: str, namespace: str, port: int) -> Iterator[Any]:
    """What acts like a socket, while the block lasts. Raises ClusterError when the API server refuses."""
    from kubernetes.client.exceptions import ApiException
    from kubernetes.stream import ws_client

    try:
        client = ws_client.portforward_call(
            transport.configuration,
            "GET",
            transport.server + POD.path(namespace, pod, "portforward"),
            query_params=[("ports", str(port))],
            headers=transport.authorization(),
        )
    except ApiException as error:
        text = str(error.reason)
        if not text.startswith("Handshake status"):
            raise problems.unreachable(transport.server, transport.known_as, error.__context__ or error) from error
        raise ClusterError(
            f"The API server does not forward to port {port} of pod {namespace}/{pod}: {text.split(' -+-+- ')[0]}.",
            next_step=f"Try it with kubectl port-forward -n {namespace} pod/{pod} {port}.",
        ) from error
    try:
        yield client.socket(port)
    finally:
        with contextlib.suppress(OSError):
            client.close()
