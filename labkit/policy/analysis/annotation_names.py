"""Annotations of Istio: unknown ones, those at the wrong kind, deprecated ones, values that cannot be read.

pkg/config/analysis/analyzers/annotations/annotations.go of istio/istio; annotation/annotations.yaml of istio/api.
https://istio.io/latest/docs/reference/config/annotations/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping

from labkit.policy.analysis.mesh import INJECT, Mesh, annotations_of, labels_of
from labkit.policy.analysis.messages import Message, found

_ANY = "Any"
_READ_KINDS = ("Namespace", "Service", "Pod", "Deployment")

_POD = "Pod"
_OF_PODS = (
    *("ambient.istio.io/bypass-inbound-capture", "ambient.istio.io/redirection", "inject.istio.io/templates"),
    *("istio.io/rev", "istio.io/reroute-virtual-interfaces", "prometheus.istio.io/merge-metrics"),
    *("proxy.istio.io/config", "proxy.istio.io/overrides", "status.sidecar.istio.io/port"),
    *(f"readiness.status.sidecar.istio.io/{name}" for name in ("applicationPorts", "failureThreshold")),
    *(f"readiness.status.sidecar.istio.io/{name}" for name in ("initialDelaySeconds", "periodSeconds")),
    *(
        f"sidecar.istio.io/{name}"
        for name in (
            *("agentLogLevel", "bootstrapOverride", "componentLogLevel", "discoveryAddress", "enableCoreDump"),
            *("extraStatTags", "inject", "interceptionMode", "logLevel", "nativeSidecar", "proxyCPU", "proxyCPULimit"),
            *("proxyImage", "proxyImageType", "proxyMemory", "proxyMemoryLimit", "rewriteAppHTTPProbers"),
            *("statsHistogramBuckets", "statsCompression", "statsEvictionInterval", "statsInclusionPrefixes"),
            *("statsInclusionRegexps", "statsInclusionSuffixes", "status", "userVolume", "userVolumeMount"),
        )
    ),
    *(
        f"traffic.sidecar.istio.io/{name}"
        for name in (
            *("excludeInboundPorts", "excludeInterfaces", "excludeOutboundIPRanges", "excludeOutboundPorts"),
            *("includeInboundPorts", "includeOutboundIPRanges", "includeOutboundPorts", "kubevirtInterfaces"),
        )
    ),
)

PLACES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_OF_PODS, (_POD,)),
    "alpha.istio.io/canonical-serviceaccounts": ("Service",),
    "alpha.istio.io/kubernetes-serviceaccounts": ("Service",),
    "ambient.istio.io/waypoint-inbound-binding": ("GatewayClass", "Gateway"),
    "galley.istio.io/analyze-suppress": (_ANY,),
    "gateway.istio.io/controller-version": (_ANY,),
    "gateway.istio.io/name-override": ("Gateway",),
    "gateway.istio.io/service-account": ("Gateway",),
    "istio.io/autoRegistrationGroup": ("WorkloadEntry",),
    "istio.io/connectedAt": ("WorkloadEntry",),
    "istio.io/disconnectedAt": ("WorkloadEntry",),
    "istio.io/workloadController": ("WorkloadEntry",),
    "istio.io/dry-run": ("AuthorizationPolicy",),
    "kubernetes.io/ingress.class": ("Ingress",),
    "networking.istio.io/address-type": ("Gateway",),
    "networking.istio.io/exportTo": ("Service",),
    "networking.istio.io/service-type": ("Gateway",),
    "networking.istio.io/traffic-distribution": ("Service", "Namespace", "ServiceEntry"),
    "topology.istio.io/controlPlaneClusters": ("Namespace",),
    "traffic.istio.io/nodeSelector": ("Service",),
}
"""Where each annotation belongs. Names that are not here are unknown."""

_DEPRECATED: Mapping[str, str] = {
    "alpha.istio.io/canonical-serviceaccounts": "",
    "alpha.istio.io/kubernetes-serviceaccounts": "",
    "sidecar.istio.io/discoveryAddress": "",
    "sidecar.istio.io/extraStatTags": "",
    INJECT: ' in favor of the "sidecar.istio.io/inject" label',
    "sidecar.istio.io/statsInclusionPrefixes": "",
    "sidecar.istio.io/statsInclusionRegexps": "",
    "sidecar.istio.io/statsInclusionSuffixes": "",
}


def annotation_names(mesh: Mesh) -> Iterator[Message]:
    """IST0108 unknown, IST0135 deprecated, IST0107 at the wrong kind, IST0125 with a value that cannot be read."""
    for kind in _READ_KINDS:
        for one in mesh.every(kind):
            for name, value in annotations_of(one).items():
                if not _is_istios(name):
                    continue
                path = f"metadata.annotations[{name}]"
                if name not in PLACES:
                    yield found("IST0108", one, name, path=path)
                    continue
                if name in _DEPRECATED and not (name == INJECT and INJECT in labels_of(one)):
                    yield found("IST0135", one, name, _DEPRECATED[name], path=path)
                if PLACES[name] == (_ANY,):
                    continue
                if kind not in PLACES[name]:
                    yield found("IST0107", one, name, ", ".join(PLACES[name]), path=path)
                elif wrong := _wrong_value(name, value):
                    yield found("IST0125", one, name, wrong, path=path)


def _is_istios(name: str) -> bool:
    return name == "kubernetes.io/ingress.class" or ("/" in name and name.split("/")[0].endswith("istio.io"))


# pkg/kube/inject/validate.go AnnotationValidation
def _wrong_value(name: str, value: str) -> str:
    check = _CHECKS.get(name)
    return check(value) if check else ""


def _number(value: str) -> str:
    return "" if value.isdigit() and int(value) < 2**32 else f'parsing "{value}": invalid syntax'


def _boolean(value: str) -> str:
    known = ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False")
    return "" if value in known else f'strconv.ParseBool: parsing "{value}": invalid syntax'


def _ports(value: str) -> str:
    for part in (one.strip() for one in value.split(",")):
        if part and not (part.isdigit() and int(part) <= 65535):
            return f"portList parameter failed to parse as port list: {value}"
    return ""


def _ports_or_all(value: str) -> str:
    return "" if value == "*" else _ports(value)


def _ranges(value: str) -> str:
    for part in (one.strip() for one in value.split(",")):
        try:
            if part:
                ipaddress.ip_network(part, strict=False)
        except ValueError:
            return f"ipRanges parameter failed to parse as CIDR list: invalid CIDR address: {part}"
    return ""


def _ranges_or_all(value: str) -> str:
    return "" if value == "*" else _ranges(value)


def _interception(value: str) -> str:
    return (
        "" if value in ("REDIRECT", "TPROXY", "NONE") else f"interceptionMode invalid, use REDIRECT or TPROXY: {value}"
    )


_CHECKS: Mapping[str, Callable[[str], str]] = {
    "readiness.status.sidecar.istio.io/initialDelaySeconds": _number,
    "readiness.status.sidecar.istio.io/periodSeconds": _number,
    "readiness.status.sidecar.istio.io/failureThreshold": _number,
    "readiness.status.sidecar.istio.io/applicationPorts": _ports,
    "sidecar.istio.io/interceptionMode": _interception,
    "sidecar.istio.io/rewriteAppHTTPProbers": _boolean,
    "status.sidecar.istio.io/port": _number,
    "traffic.sidecar.istio.io/includeOutboundIPRanges": _ranges_or_all,
    "traffic.sidecar.istio.io/excludeOutboundIPRanges": _ranges,
    "traffic.sidecar.istio.io/includeInboundPorts": _ports_or_all,
    "traffic.sidecar.istio.io/excludeInboundPorts": _ports,
    "traffic.sidecar.istio.io/includeOutboundPorts": _ports_or_all,
    "traffic.sidecar.istio.io/excludeOutboundPorts": _ports,
}
