"""What the embedded control plane does not do with an object of Istio: said when it is applied, never ignored silently.

A table: for each kind the fields that are kept and not acted on, as a path and a sentence. A path goes through lists,
`*` stands for any key. Real Istio acts on all of them, so what is written stays right there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WHOLE = ""
"""The path of a kind that is not acted on at all."""

_WHOLE_POLICIES = ("spec.trafficPolicy", "spec.subsets.trafficPolicy")

_POLICIES = (*_WHOLE_POLICIES, *(f"{path}.portLevelSettings" for path in _WHOLE_POLICIES))


def _in_every_policy(lines: Mapping[str, str], policies: Sequence[str] = _POLICIES) -> dict[str, str]:
    """What is said of a traffic policy, wherever a DestinationRule has one."""
    return {f"{policy}.{path}": sentence for policy in policies for path, sentence in lines.items()}


NOT_ACTED_ON: dict[str, dict[str, str]] = {
    "Gateway": {
        "spec.servers.defaultEndpoint": "requests go where VirtualServices lead them",
        "spec.servers.port.targetPort": "a gateway listens on the port that is named",
        "spec.servers.tls.tlsCertificates.caCertificates": "clients are verified with the server's own caCertificates",
        "spec.servers.bind": "a gateway listens on its pod's address",
    },
    "RequestAuthentication": {
        "spec.targetRef": "policies are for workloads by selector here",
        "spec.targetRefs": "policies are for workloads by selector here",
    },
    "Telemetry": {
        "spec.tracing": "nothing on the embedded mesh collects traces",
        "spec.metrics.reportingInterval": "connections of TCP are counted when they open and close",
        "spec.targetRef": "telemetry is for workloads by selector here",
        "spec.targetRefs": "telemetry is for workloads by selector here",
    },
    "WorkloadGroup": {WHOLE: "no machine registers itself on the embedded mesh; write a WorkloadEntry"},
    "VirtualService": {
        "spec.http.delegate": "delegates are not followed; write the routes here",
        "spec.http.retries.retryRemoteLocalities": "one node is one locality",
        "spec.tls.match.destinationSubnets": "routes go by SNI and port alone",
        "spec.tcp.match.destinationSubnets": "routes go by port alone",
        "spec.tcp.match.sourceSubnet": "routes go by port alone",
    },
    "DestinationRule": {
        **_in_every_policy(
            {
                "loadBalancer.localityLbSetting": "one node is one locality",
                "connectionPool.http.useClientProtocol": "the port's protocol decides",
                "connectionPool.http.h2UpgradePolicy": "HTTP/1.1 stays HTTP/1.1",
            }
        ),
        **_in_every_policy(
            {
                "tunnel": "connections are not tunnelled",
            },
            _WHOLE_POLICIES,
        ),
    },
    "AuthorizationPolicy": {
        "spec.targetRef": "policies are for workloads by selector here",
        "spec.targetRefs": "policies are for workloads by selector here",
    },
    "ServiceEntry": {
        "spec.addresses": "pods find the host by its name, at an address of the embedded cluster's own plan",
        "spec.endpoints.network": "there is one network",
        "spec.endpoints.locality": "one node is one locality",
    },
    "WorkloadEntry": {
        "spec.network": "there is one network",
        "spec.locality": "one node is one locality",
    },
    "Sidecar": {
        "spec.inboundConnectionPool": "what comes in is not limited",
        "spec.ingress.connectionPool": "what comes in is not limited",
        "spec.ingress.bind": "listeners stand where the address plan puts them",
        "spec.ingress.captureMode": "listeners stand where the address plan puts them",
        "spec.ingress.port.targetPort": "defaultEndpoint says where the application listens",
        "spec.egress.captureMode": "listeners stand where the address plan puts them",
        "spec.egress.port.protocol": "the Service says what its port speaks",
        "spec.egress.port.targetPort": "the Service says where its port leads",
        "spec.ingress.tls": "ingress listeners follow PeerAuthentication here",
        "spec.egress.bind": "listeners stand where the address plan puts them",
        "spec.outboundTrafficPolicy.egressProxy": "unknown traffic is passed on directly",
    },
    "EnvoyFilter": {
        "spec.targetRefs": "filters are for workloads by workloadSelector here",
        "spec.configPatches.match.proxy": "all proxies are of one version, so this matches every one",
        "spec.configPatches.match.waypoint": "there are no waypoints",
        "spec.configPatches.match.listener.portName": "listeners are told apart by portNumber and name",
        "spec.configPatches.match.routeConfiguration.portName": "route configurations are told apart by portNumber",
        "spec.configPatches.match.routeConfiguration.gateway": "route configurations are told apart by portNumber",
        "spec.configPatches.patch.filterClass": "a filter stands where operation and match put it",
    },
    "WasmPlugin": {
        "spec.sha256": "the module is not checked against it",
        "spec.match.ports": "a plugin runs on all ports of its side",
        "spec.imagePullPolicy": "modules are files, and nothing is pulled",
        "spec.imagePullSecret": "modules are files, and nothing is pulled",
        "spec.verificationKey": "the module is not checked against it",
        "spec.targetRef": "plugins are for workloads by selector here",
        "spec.targetRefs": "plugins are for workloads by selector here",
    },
    "ProxyConfig": {"spec.image": "there is one image of the proxy"},
}

_SAYS_NOTHING: tuple[Any, ...] = (None, {}, [], "", False, "DEFAULT", "UNSPECIFIED", "UNSPECIFIED_POLICY")
_APPLY_TO = frozenset({"BOOTSTRAP", "EXTENSION_CONFIG"})
_MESSAGES = frozenset({"GRPC_REQUEST_MESSAGES", "GRPC_RESPONSE_MESSAGES"})


def not_acted_on(obj: Mapping[str, Any]) -> tuple[str, ...]:
    """One sentence for each part of an object that has no effect on the embedded mesh."""
    kind = str(obj.get("kind") or "")
    found = []
    for path, sentence in NOT_ACTED_ON.get(kind, {}).items():
        if path == WHOLE:
            found.append(f"{kind} is stored, and not acted on: {sentence}")
        elif any(value not in _SAYS_NOTHING for value in _at(obj, path.split("."))):
            found.append(f"{path} has no effect: {sentence}")
    if kind == "ServiceEntry":
        patterns = sorted(host for host in _at(obj, ["spec", "hosts"]) if str(host).startswith("*"))
        found += [f"host {one} has no effect: pods of the embedded mesh find only whole names" for one in patterns]
    if kind == "Telemetry":
        named = set(_at(obj, ["spec", "metrics", "overrides", "match", "metric"]))
        found += [f"metric {one} is never counted: messages of gRPC are not seen" for one in sorted(named & _MESSAGES)]
    if kind == "WasmPlugin" and "NETWORK" in _at(obj, ["spec", "type"]):
        found.append("type NETWORK has no effect: plugins run among the HTTP filters")
    if kind == "EnvoyFilter":
        used = set(_at(obj, ["spec", "configPatches", "applyTo"])) & _APPLY_TO
        found += [f"applyTo {one} has no effect: a running proxy takes it no more" for one in sorted(used)]
    return tuple(found)


def impossible(obj: Mapping[str, Any]) -> tuple[str, ...]:
    """Why an object would do harm on the embedded mesh, so that it is refused."""
    spec = obj.get("spec") or {}
    if obj.get("kind") == "AuthorizationPolicy" and spec.get("action") == "CUSTOM":
        name = (spec.get("provider") or {}).get("name") or ""
        return (
            f"available providers are [] but found {name!r}: the embedded control plane has no extension providers, "
            "so CUSTOM would deny everything",
        )
    return ()


def _at(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """Every value at a path, through lists."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from _at(one, path)
    elif not path:
        yield value
    elif isinstance(value, Mapping):
        keys = value if path[0] == "*" else [path[0]]
        for key in keys:
            if key in value:
                yield from _at(value[key], path[1:])
