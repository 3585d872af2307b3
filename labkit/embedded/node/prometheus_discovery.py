"""Kubernetes service discovery for a Prometheus that was built without it, as Debian's is.

Watches pods, endpoints and services, and writes for each job whom to scrape, as Prometheus would have found it:
with the same `__meta_kubernetes_*` labels, which the rules of the job then read
(https://prometheus.io/docs/prometheus/latest/configuration/configuration/#kubernetes_sd_config, roles pod, endpoints,
service and node). Prometheus reads such files by itself when they change (file_sd_config).

A program of its own beside Prometheus, which ends when Prometheus does. Standard library only: it runs in a pod.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import ssl
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

Object = dict[str, Any]
Group = dict[str, Any]

ROLES = {
    "pod": ("pods",),
    "service": ("services",),
    "endpoints": ("endpoints", "services", "pods"),
    "node": ("nodes",),
}
"""What has to be watched for a role."""

META = "__meta_kubernetes_"
QUIET_SECONDS = 0.2
"""Changes come in flocks: a file is written when nothing has come for so long."""


# -- what Prometheus would find; pure


def pod_groups(pods: Mapping[str, Object]) -> Iterator[Group]:
    """One target for each declared port of each container, one without a port for a container that declares none."""
    for pod in pods.values():
        ip = (pod.get("status") or {}).get("podIP")
        if not ip:
            continue
        labels = {f"{META}namespace": pod["metadata"]["namespace"], **pod_labels(pod)}
        for container, init in _containers(pod):
            own = {
                **labels,
                f"{META}pod_container_name": container["name"],
                f"{META}pod_container_image": container.get("image", ""),
                f"{META}pod_container_init": _said(init),
            }
            for port in container.get("ports") or ():
                yield {"targets": [f"{ip}:{port['containerPort']}"], "labels": {**own, **_port_labels(port)}}
            if not container.get("ports"):
                yield {"targets": [ip], "labels": own}


def pod_labels(pod: Object) -> dict[str, str]:
    """What is said of a pod in every role that meets one."""
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    ready = next((c.get("status", "") for c in status.get("conditions") or () if c.get("type") == "Ready"), "")
    found = {
        **_of_object("pod", pod),
        f"{META}pod_ip": status.get("podIP", ""),
        f"{META}pod_ready": ready.lower() or "unknown",
        f"{META}pod_phase": status.get("phase", ""),
        f"{META}pod_node_name": spec.get("nodeName", ""),
        f"{META}pod_host_ip": status.get("hostIP", ""),
        f"{META}pod_uid": pod["metadata"].get("uid", ""),
    }
    for owner in pod["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            found |= {f"{META}pod_controller_kind": owner["kind"], f"{META}pod_controller_name": owner["name"]}
    return found


def service_groups(services: Mapping[str, Object]) -> Iterator[Group]:
    """One target for each port of each Service, by its name in DNS."""
    for service in services.values():
        metadata, spec = service["metadata"], service.get("spec") or {}
        labels = {
            f"{META}namespace": metadata["namespace"],
            **_of_object("service", service),
            f"{META}service_type": spec.get("type", "ClusterIP"),
            f"{META}service_cluster_ip": spec.get("clusterIP", ""),
        }
        for port in spec.get("ports") or ():
            own = {
                f"{META}service_port_name": port.get("name", ""),
                f"{META}service_port_number": str(port["port"]),
                f"{META}service_port_protocol": port.get("protocol", "TCP"),
            }
            yield {
                "targets": [f"{metadata['name']}.{metadata['namespace']}.svc:{port['port']}"],
                "labels": {**labels, **own},
            }


def endpoint_groups(
    endpoints: Mapping[str, Object], services: Mapping[str, Object], pods: Mapping[str, Object]
) -> Iterator[Group]:
    """One target for each address and port, with what is said of the Service and of the pod behind."""
    for key, one in endpoints.items():
        labels = {f"{META}namespace": one["metadata"]["namespace"], **_of_object("endpoints", one)}
        if key in services:
            labels |= _of_object("service", services[key])
        for subset in one.get("subsets") or ():
            for port in subset.get("ports") or ():
                for ready, name in ((True, "addresses"), (False, "notReadyAddresses")):
                    for address in subset.get(name) or ():
                        yield _endpoint(labels, port, address, ready, pods)


def node_groups(nodes: Mapping[str, Object]) -> Iterator[Group]:
    """One target for each node: its kubelet."""
    for node in nodes.values():
        status = node.get("status") or {}
        addresses = {one["type"]: one["address"] for one in status.get("addresses") or ()}
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port", 10250)
        labels = {**_of_object("node", node), "instance": str(node["metadata"]["name"])}
        labels |= {f"{META}node_address_{kind}": address for kind, address in addresses.items()}
        if host := addresses.get("InternalIP") or next(iter(addresses.values()), ""):
            yield {"targets": [f"{host}:{port}"], "labels": labels}


def _endpoint(
    labels: Mapping[str, str], port: Object, address: Object, ready: bool, pods: Mapping[str, Object]
) -> Group:
    target = address.get("targetRef") or {}
    own = {
        **labels,
        f"{META}endpoint_port_name": port.get("name", ""),
        f"{META}endpoint_port_protocol": port.get("protocol", "TCP"),
        f"{META}endpoint_ready": _said(ready),
        f"{META}endpoint_node_name": address.get("nodeName", ""),
        f"{META}endpoint_address_target_kind": target.get("kind", ""),
        f"{META}endpoint_address_target_name": target.get("name", ""),
    }
    pod = pods.get(f"{target.get('namespace') or labels[f'{META}namespace']}/{target.get('name')}")
    if target.get("kind") == "Pod" and pod:
        own |= pod_labels(pod)
        for container, init in _containers(pod):
            for declared in container.get("ports") or ():
                if declared["containerPort"] == port["port"]:
                    own |= {f"{META}pod_container_name": container["name"], **_port_labels(declared)}
                    own[f"{META}pod_container_init"] = _said(init)
    return {"targets": [f"{address['ip']}:{port['port']}"], "labels": own}


def _containers(pod: Object) -> Iterator[tuple[Object, bool]]:
    spec = pod.get("spec") or {}
    yield from ((one, False) for one in spec.get("containers") or ())
    yield from ((one, True) for one in spec.get("initContainers") or ())


def _port_labels(port: Object) -> dict[str, str]:
    return {
        f"{META}pod_container_port_name": port.get("name", ""),
        f"{META}pod_container_port_number": str(port["containerPort"]),
        f"{META}pod_container_port_protocol": port.get("protocol", "TCP"),
    }


def _of_object(kind: str, obj: Object) -> dict[str, str]:
    metadata = obj["metadata"]
    found = {f"{META}{kind}_name": str(metadata["name"])}
    for what in ("label", "annotation"):
        for name, value in (metadata.get(f"{what}s") or {}).items():
            plain = re.sub(r"[^a-zA-Z0-9_]", "_", name)
            found[f"{META}{kind}_{what}_{plain}"] = str(value)
            found[f"{META}{kind}_{what}present_{plain}"] = "true"
    return found


def _said(yes: bool) -> str:
    return "true" if yes else "false"


# -- watching


class Watch(threading.Thread):
    """Keeps the objects of one path: list, then watch, then list again when the watch has ended."""

    def __init__(self, api: Api, path: str, changed: threading.Event) -> None:
        super().__init__(daemon=True)
        self.objects: dict[str, Object] = {}
        self.listed = threading.Event()
        self._api, self._path, self._changed = api, path, changed

    def run(self) -> None:
        """For ever; what fails is tried again."""
        while True:
            try:
                listed = self._api.get(self._path)
                self.objects = {_key(one): one for one in listed.get("items") or ()}
                self.listed.set()
                self._changed.set()
                self._follow(str(listed["metadata"].get("resourceVersion", "")))
            except (OSError, ValueError, KeyError) as error:
                print(f"discovery: {self._path}: {error}; asking again", file=sys.stderr, flush=True)
                time.sleep(1)

    def _follow(self, version: str) -> None:
        for event in self._api.watch(self._path, version):
            if event["type"] == "ERROR":
                return
            if event["type"] == "BOOKMARK":
                continue
            obj, known = event["object"], dict(self.objects)
            if event["type"] == "DELETED":
                known.pop(_key(obj), None)
            else:
                known[_key(obj)] = obj
            self.objects = known  # a new one, so that whoever reads it sees no change halfway
            self._changed.set()


class Api:
    """The API server, with the pod's account."""

    def __init__(self, server: str, token_file: str, authority: str) -> None:
        self._server, self._token_file = server, token_file
        tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authority))
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), tls)

    def _open(self, path: str, timeout: float, **query: str) -> Any:
        joined = f"{path}{'&' if '?' in path else '?'}{urlencode(query)}" if query else path
        token = Path(self._token_file).read_text(encoding="utf-8").strip()  # read anew: tokens are renewed
        request = urllib.request.Request(self._server + joined, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        return self._opener.open(request, timeout=timeout)

    def get(self, path: str) -> Object:
        """One object, or a list."""
        with self._open(path, 10) as answer:
            found: Object = json.load(answer)
            return found

    def watch(self, path: str, version: str) -> Iterator[Object]:
        """The events of some minutes."""
        with self._open(path, 330, watch="1", resourceVersion=version, timeoutSeconds="300") as answer:
            for line in answer:
                yield json.loads(line)


def _key(obj: Object) -> str:
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


class Job:
    """One entry of `kubernetes_sd_configs`, and the file that takes its place."""

    def __init__(self, wanted: Object, watches: Mapping[str, list[Watch]]) -> None:
        self._file, self._role = Path(wanted["file"]), wanted["role"]
        self._watches = watches
        self._written = ""

    def write(self) -> None:
        """Bring the file up to date."""
        known = {
            kind: {k: o for watch in watches for k, o in watch.objects.items()}
            for kind, watches in self._watches.items()
        }
        if self._role == "pod":
            groups = pod_groups(known["pods"])
        elif self._role == "node":
            groups = node_groups(known["nodes"])
        elif self._role == "service":
            groups = service_groups(known["services"])
        else:
            groups = endpoint_groups(known["endpoints"], known["services"], known["pods"])
        text = json.dumps(list(groups))
        if text != self._written:
            aside = self._file.with_suffix(".new")
            aside.write_text(text, encoding="utf-8")
            aside.replace(self._file)
            self._written = text


def paths_of(kind: str, wanted: Object) -> list[str]:
    """What to list and watch for one kind of an entry: the namespaces that it names, with its selectors."""
    query = {
        f"{what}Selector": one[what]
        for one in wanted.get("selectors") or ()
        if f"{one.get('role', '')}s".replace("endpointss", "endpoints") == kind
        for what in ("label", "field")
        if one.get(what)
    }
    tail = f"?{urlencode(query)}" if query else ""
    if kind == "nodes":
        return [f"/api/v1/nodes{tail}"]
    names = (wanted.get("namespaces") or {}).get("names") or []
    return [f"/api/v1/namespaces/{name}/{kind}{tail}" for name in names] or [f"/api/v1/{kind}{tail}"]


def main() -> None:
    """Discover until Prometheus ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, prctl(2): a signal when the parent ends
    parent = int(sys.argv[2])
    plan_file = Path(sys.argv[1])
    began_with = plan_file.stat().st_mtime_ns
    plan: Object = json.loads(plan_file.read_text(encoding="utf-8"))
    api, changed = Api(plan["server"], plan["token_file"], plan["ca_file"]), threading.Event()
    watches: dict[str, Watch] = {}
    jobs = []
    for wanted in plan["jobs"]:
        mine: dict[str, list[Watch]] = {}
        for kind in ROLES[wanted["role"]]:
            paths = paths_of(kind, wanted)
            mine[kind] = [watches.setdefault(path, Watch(api, path, changed)) for path in paths]
        jobs.append(Job(wanted, mine))
    for watch in watches.values():
        watch.start()
    for watch in watches.values():
        watch.listed.wait()
    while os.getppid() == parent:
        if plan_file.stat().st_mtime_ns != began_with:
            os.execv(sys.executable, [sys.executable, "-S", "-E", *sys.argv])
        if changed.wait(1):
            changed.clear()
            time.sleep(QUIET_SECONDS)  # the rest of the flock
            for job in jobs:
                job.write()


if __name__ == "__main__":
    main()
