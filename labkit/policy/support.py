"""What the embedded control plane does not do with an object of Istio: said when it is applied, never ignored silently.

A table: for each kind the fields that are kept and not acted on, as a path and a sentence. A path goes through lists,
`*` stands for any key. Real Istio acts on all of them, so what is written stays right there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WHOLE = ""
"""The path of a kind that is not acted on at all."""

NOT_ACTED_ON: dict[str, dict[str, str]] = {
    "Gateway": {
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
    },
    "DestinationRule": {
        "spec.trafficPolicy.loadBalancer.consistentHash": "requests are balanced by LEAST_REQUEST instead",
        "spec.trafficPolicy.loadBalancer.localityLbSetting": "one node is one locality",
        "spec.trafficPolicy.loadBalancer.warmup": "new endpoints get their share at once",
        "spec.trafficPolicy.portLevelSettings.loadBalancer.consistentHash": "LEAST_REQUEST balances instead",
        "spec.trafficPolicy.tls.credentialName": "sidecars take certificates from files alone",
        "spec.trafficPolicy.portLevelSettings.tls.credentialName": "sidecars take certificates from files alone",
        "spec.trafficPolicy.tunnel": "connections are not tunnelled",
        "spec.trafficPolicy.proxyProtocol": "the PROXY protocol is not spoken",
        "spec.subsets.trafficPolicy.loadBalancer.consistentHash": "requests are balanced by LEAST_REQUEST instead",
    },
    "AuthorizationPolicy": {
        "spec.targetRef": "policies are for workloads by selector here",
        "spec.targetRefs": "policies are for workloads by selector here",
    },
    "Sidecar": {
        "spec.ingress.tls": "ingress listeners follow PeerAuthentication here",
        "spec.egress.bind": "listeners stand where the address plan puts them",
        "spec.outboundTrafficPolicy.egressProxy": "unknown traffic is passed on directly",
    },
    "EnvoyFilter": {
        "spec.targetRefs": "filters are for workloads by workloadSelector here",
        "spec.configPatches.match.proxy": "all proxies are of one version, so this matches every one",
    },
    "WasmPlugin": {
        "spec.sha256": "the module is not checked against it",
        "spec.targetRefs": "plugins are for workloads by selector here",
    },
    "ProxyConfig": {"spec.image": "there is one image of the proxy"},
}

_APPLY_TO = frozenset({"BOOTSTRAP", "EXTENSION_CONFIG"})
_MESSAGES = frozenset({"GRPC_REQUEST_MESSAGES", "GRPC_RESPONSE_MESSAGES"})


def not_acted_on(obj: Mapping[str, Any]) -> tuple[str, ...]:
    """One sentence for each part of an object that has no effect on the embedded mesh."""
    kind = str(obj.get("kind") or "")
    found = []
    for path, sentence in NOT_ACTED_ON.get(kind, {}).items():
        if path == WHOLE:
            found.append(f"{kind} is stored, and not acted on: {sentence}")
        elif any(value not in (None, {}, [], "") for value in _at(obj, path.split("."))):
            found.append(f"{path} has no effect: {sentence}")
    if kind == "ServiceEntry":
        patterns = sorted(host for host in _at(obj, ["spec", "hosts"]) if str(host).startswith("*"))
        found += [f"host {one} has no effect: pods of the embedded mesh find only whole names" for one in patterns]
    if kind == "DestinationRule" and "PASSTHROUGH" in _at(obj, ["spec", "trafficPolicy", "loadBalancer", "simple"]):
        found.append("loadBalancer.simple PASSTHROUGH has no effect: LEAST_REQUEST balances instead")
    if kind == "Telemetry":
        named = set(_at(obj, ["spec", "metrics", "overrides", "match", "metric"]))
        found += [f"metric {one} is never counted: messages of gRPC are not seen" for one in sorted(named & _MESSAGES)]
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
