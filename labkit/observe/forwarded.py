"""One request through `kubectl port-forward`: from this machine, over the API server, to a pod's own localhost."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from labkit.cluster import Cluster
from labkit.cluster.forwarding import forward
from labkit.observe.objects import find_workload, name_of
from labkit.outcomes import Observation, Outcome, Probe, RequestKind

HERE = "this machine"


def ask_through_forward(
    cluster: Cluster, workload: str, port: int, path: str = "/", *, data: Any = None, limit: float = 10.0
) -> Observation:
    """GET a path of a workload's port, or POST `data` (JSON) to it.

    It reaches the application inside its pod, behind the sidecar, so what the server's policies say of plaintext does
    not concern it. A port on which nobody listens is an observation. Raises LabError when the API server refuses.
    """
    reference = find_workload(cluster, workload)
    pod = reference.ready_pod()
    sent = json.dumps(data) if data is not None else None
    headers = {"Host": f"localhost:{port}", "Connection": "close"}
    if sent is not None:
        headers["Content-Type"] = "application/json"
    probe = Probe(
        HERE, str(reference), port, RequestKind.HTTP, "POST" if sent else "GET", urlsplit(path).path, sent or ""
    )
    command = f"kubectl port-forward -n {reference.namespace} {reference.kubectl_name} {port}"
    started = time.monotonic()
    try:
        asking = http.client.HTTPConnection("localhost", port, timeout=limit)
        with forward(cluster.transport, name_of(pod), reference.namespace, port) as asking.sock, closing(asking):
            asking.request(probe.method, path, sent, headers)
            answer = asking.getresponse()
            body = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        words = str(error) or type(error).__name__
        return Observation(
            Outcome.REFUSED, error=words, command=command, duration=time.monotonic() - started, probe=probe
        )
    return Observation(
        outcome=Outcome.PLAINTEXT,
        http_status=answer.status,
        body=body,
        headers={key.lower(): value for key, value in answer.getheaders()},
        command=command,
        duration=time.monotonic() - started,
        probe=probe,
    )
