"""Which pods stand behind a Service: Endpoints and EndpointSlices as dictionaries. Pure.

1. A pod counts when its labels match, it has an address, and it has not finished.
2. It is ready when its condition Ready is true, or the Service has `publishNotReadyAddresses`.
3. A pod on its way out is never ready; a slice still lists it as terminating, Endpoints do not.
4. A named targetPort is looked up in each pod; pods with different answers go into different slices (or subsets).
https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labkit.embedded.apiclient import Object
from labkit.embedded.controllers.objects import is_ready, labels_of

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"

Ports = tuple[tuple[str, int, str, str | None], ...]
"""(name, number, protocol, appProtocol) of each port."""


def selected_pods(service: Object, pods: Iterable[Object]) -> list[Object]:
    """Rule 1: the pods of the Service's namespace that stand behind it, by name."""
    selector, namespace = service["spec"].get("selector") or {}, service["metadata"]["namespace"]
    if not selector:
        return []
    chosen = [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == namespace
        and selector.items() <= labels_of(pod).items()
        and pod.get("status", {}).get("podIP")
        and pod["status"].get("phase") not in ("Succeeded", "Failed")
    ]
    return sorted(chosen, key=lambda pod: pod["metadata"]["name"])


def ports_for(service: Object, pod: Object) -> Ports:
    """Rule 4: the Service's ports as numbers in this pod. A name that the pod does not have is left out."""
    found = []
    for port in service["spec"].get("ports") or []:
        protocol = port.get("protocol", "TCP")
        target = port.get("targetPort") or port["port"]
        number = target if isinstance(target, int) else _named_port(pod, target, protocol)
        if number is not None:
            found.append((port.get("name", ""), number, protocol, port.get("appProtocol")))
    return tuple(found)


def _named_port(pod: Object, name: str, protocol: str) -> int | None:
    containers = list(pod["spec"].get("containers") or [])
    containers += [c for c in pod["spec"].get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    for container in containers:
        for port in container.get("ports") or []:
            if port.get("name") == name and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return None


def make_slices(service: Object, pods: Iterable[Object]) -> dict[Ports, Object]:
    """The slices that should exist, by their ports, without names.

    Kubernetes cuts slices at 100 endpoints; the embedded cluster has no more than 254 pods and does not.
    """
    slices: dict[Ports, Object] = {}
    for pod in selected_pods(service, pods):
        ports = ports_for(service, pod)
        if service["spec"].get("ports") and not ports:
            continue
        if ports not in slices:
            slices[ports] = _empty_slice(service, ports)
        slices[ports]["endpoints"].append(_slice_endpoint(service, pod))
    if not slices:  # an empty slice says: this Service has no endpoints
        slices[()] = _empty_slice(service, ())
    return slices


def slice_ports(endpoint_slice: Object) -> Ports:
    """The key under which `make_slices` would have this slice."""
    return tuple(
        (p.get("name") or "", p["port"], p.get("protocol", "TCP"), p.get("appProtocol"))
        for p in endpoint_slice.get("ports") or []
    )


def make_endpoints(service: Object, pods: Iterable[Object]) -> Object:
    """The Endpoints object that should exist."""
    subsets: dict[Ports, dict[str, list[Object]]] = {}
    for pod in selected_pods(service, pods):
        publish = bool(service["spec"].get("publishNotReadyAddresses"))
        if "deletionTimestamp" in pod["metadata"] and not publish:
            continue
        ports = ports_for(service, pod)
        if service["spec"].get("ports") and not ports:
            continue
        field = "addresses" if publish or is_ready(pod) else "notReadyAddresses"
        address = {"ip": pod["status"]["podIP"], "nodeName": pod["spec"].get("nodeName"), "targetRef": _target(pod)}
        subsets.setdefault(ports, {}).setdefault(field, []).append(_without_none(address))
    meta = service["metadata"]
    labels = {**labels_of(service), **({HEADLESS: ""} if is_headless(service) else {})}
    endpoints: Object = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"], "labels": labels},
    }
    if subsets:
        endpoints["subsets"] = [
            {**addresses, **({"ports": [_port(*port) for port in ports]} if ports else {})}
            for ports, addresses in subsets.items()
        ]
    return endpoints


def is_headless(service: Object) -> bool:
    """Has the Service no address of its own, on purpose?"""
    return bool(service["spec"].get("clusterIP") == "None")


def same_content(one: Object, other: Object, fields: Iterable[str]) -> bool:
    """Are two objects equal in these fields and in their labels? A field that is empty equals one that is absent."""
    return dict(labels_of(one)) == dict(labels_of(other)) and all(
        (one.get(field) or None) == (other.get(field) or None) for field in fields
    )


def _empty_slice(service: Object, ports: Ports) -> Object:
    meta = service["metadata"]
    labels = {**labels_of(service), SERVICE_LABEL: meta["name"], MANAGED_BY: CONTROLLER}
    if is_headless(service):
        labels[HEADLESS] = ""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "addressType": "IPv4",
        "endpoints": [],
        "ports": [{**_port(*port), "name": port[0]} for port in ports],
    }


def _slice_endpoint(service: Object, pod: Object) -> Object:
    terminating = "deletionTimestamp" in pod["metadata"]
    serving = is_ready(pod)
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": publish or (serving and not terminating),
            "serving": serving or publish,
            "terminating": terminating,
        },
        "targetRef": _target(pod),
        "nodeName": pod["spec"].get("nodeName"),
    }
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = pod["spec"]["hostname"]
    return _without_none(endpoint)


def _target(pod: Object) -> Mapping[str, str]:
    meta = pod["metadata"]
    return {"kind": "Pod", "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]}


def _port(name: str, number: int, protocol: str, app_protocol: str | None) -> Object:
    port = {"name": name or None, "port": number, "protocol": protocol, "appProtocol": app_protocol}
    return _without_none(port)


def _without_none(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if value is not None}
