"""What istiod says below /debug on its monitoring port, on every cluster.

Istio's own answers there to callers on its own machine, or with a token of the mesh (pilot/pkg/xds/debug.go,
allowAuthenticatedOrLocalhost). A port-forward is such a caller, as istioctl's is; the API server's proxy is none, but
quicker where it is answered.
"""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from urllib.parse import urlencode

from labkit.cluster import Cluster, Obj
from labkit.cluster.forwarding import forward
from labkit.cluster.kinds import POD
from labkit.errors import ClusterError, MeshError
from labkit.observe.objects import name_of, namespace_of

MONITORING = 15014
SECONDS = 20.0


@dataclass(frozen=True)
class Answer:
    """One istiod's answer. Several may run, and each knows the proxies that are connected to it."""

    istiod: str
    text: str


def ask_istiod(cluster: Cluster, istiod: Obj, what: str, params: dict[str, str] | None = None) -> list[Answer]:
    """The answers of all that have one. Raises MeshError when nobody has."""
    status, text = by_service(cluster, istiod, what, params)
    if status < 400:
        return [Answer(name_of(istiod), text)]
    refused = [f"through its Service: {status} {_first_line(text)}"]
    answers = []
    for pod in cluster.objects(POD, namespace_of(istiod), labels={"app": "istiod"}):
        if (pod.get("status") or {}).get("phase") != "Running":
            continue
        try:
            status, text = by_forward(cluster, pod, what, params)
        except (ClusterError, OSError, http.client.HTTPException) as error:
            refused.append(f"{name_of(pod)}: {error}")
            continue
        if status < 400:
            answers.append(Answer(name_of(pod), text))
        else:
            refused.append(f"{name_of(pod)}: {status} {_first_line(text)}")
    if answers:
        return answers
    raise MeshError(
        f"istiod in {namespace_of(istiod)} does not answer /debug/{what}.",
        meaning=f"It was asked in these ways: {'; '.join(refused)}",
        next_step=f"Look whether it runs: kubectl -n {namespace_of(istiod)} get pods -l app=istiod",
    )


def by_service(cluster: Cluster, istiod: Obj, what: str, params: dict[str, str] | None = None) -> tuple[int, str]:
    """The status and the answer through the API server's proxy."""
    service = f"/api/v1/namespaces/{namespace_of(istiod)}/services/{name_of(istiod)}:{MONITORING}"
    return cluster.transport.reply(f"{service}/proxy/debug/{what}", params)


def by_forward(cluster: Cluster, pod: Obj, what: str, params: dict[str, str] | None = None) -> tuple[int, str]:
    """The status and the answer through a port-forward to one of its pods."""
    with forward(cluster.transport, name_of(pod), namespace_of(pod), MONITORING) as stream:
        stream.settimeout(SECONDS)
        connection = http.client.HTTPConnection("localhost", MONITORING)
        connection.sock = stream
        connection.request("GET", f"/debug/{what}{'?' + urlencode(params) if params else ''}")
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:200]
