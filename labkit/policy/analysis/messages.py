"""What an analysis finds: codes of istioctl and Kiali with their severity and words, and the messages made of them.

Names, codes, levels and words: pkg/config/analysis/msg/messages.yaml of istio/istio, models/istio_validation.go of
kiali/kiali. Pages: https://istio.io/latest/docs/reference/config/analysis/ , https://kiali.io/docs/features/validations/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

Object = Mapping[str, Any]

ISTIO, KIALI = "istioctl", "kiali"


class Level(IntEnum):
    """How bad it is; the higher, the worse."""

    INFO = 1
    WARNING = 2
    ERROR = 3

    @property
    def word(self) -> str:
        """Error, Warning, Info: as istioctl prints it."""
        return self.name.capitalize()


@dataclass(frozen=True)
class Code:
    """One kind of finding. `words` has `{}` for what differs each time."""

    code: str
    name: str
    level: Level
    words: str

    @property
    def tool(self) -> str:
        """Whose code it is."""
        return ISTIO if self.code.startswith("IST") else KIALI

    @property
    def summary(self) -> str:
        """The name in words: `Referenced resource not found`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.name).capitalize()

    @property
    def link(self) -> str:
        """The page about it."""
        if self.tool == ISTIO:
            return f"https://istio.io/latest/docs/reference/config/analysis/{self.code.lower()}/"
        anchor = re.sub(r"[^a-z0-9 -]", "", self.words.lower()).replace(" ", "-")
        return f"https://kiali.io/docs/features/validations/#{self.code.lower()}---{anchor}"


@dataclass(frozen=True)
class Message:
    """One finding about one object. `path` leads to the field in question, such as `spec.http[0].route[1]`."""

    code: Code
    kind: str
    namespace: str
    name: str
    text: str
    path: str = ""

    @property
    def level(self) -> Level:
        return self.code.level

    @property
    def origin(self) -> str:
        """`VirtualService shop/web`, or `Namespace shop`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    def line(self, place: str = "") -> str:
        """As istioctl prints it; `place` is `file:line`."""
        where = f"{self.origin} {place}" if place else self.origin
        return f"{self.level.word} [{self.code.code}] ({where}) {self.text}"

    @property
    def order(self) -> tuple[int, str, str, str]:
        """The worst first, then by code and object (pkg/config/analysis/diag/messages.go)."""
        return (-self.level, self.code.code, self.origin, self.text)

    def as_dict(self) -> dict[str, str]:
        """For JSON, with istioctl's names."""
        return {
            "code": self.code.code,
            "level": self.level.word,
            "origin": self.origin,
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            "message": self.text,
            "path": self.path,
            "tool": self.code.tool,
            "documentationUrl": self.code.link,
        }


def found(code: str, obj: Object, *values: object, path: str = "") -> Message:
    """A finding about an object."""
    known = CODES[code]
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    kind = str(obj.get("kind") or "")
    namespace = "" if kind == "Namespace" else str(metadata.get("namespace") or "default")
    text = known.words.format(*values)
    if known.tool == KIALI and path:
        text = f"{text} ({path})"
    return Message(known, kind, namespace, str(metadata.get("name") or ""), text, path)


def go_list(values: Any) -> str:
    """A list as Go prints %v."""
    return f"[{' '.join(map(str, values))}]"


_I, _W, _E = Level.INFO, Level.WARNING, Level.ERROR

_ALL = (
    Code("IST0001", "InternalError", _E, "Internal error: {}"),
    Code("IST0101", "ReferencedResourceNotFound", _E, 'Referenced {} not found: "{}"'),
    Code(
        "IST0102",
        "NamespaceNotInjected",
        _I,
        "The namespace is not enabled for Istio injection. Run 'kubectl label namespace {0} istio-injection=enabled' "
        "to enable it, or 'kubectl label namespace {0} istio-injection=disabled' to explicitly mark it as not needing "
        "injection.",
    ),
    Code(
        "IST0103",
        "PodMissingProxy",
        _W,
        "The pod {} is missing the Istio proxy. This can often be resolved by restarting or redeploying the workload.",
    ),
    Code("IST0106", "SchemaValidationError", _E, "Schema validation error: {}"),
    Code("IST0107", "MisplacedAnnotation", _W, "Misplaced annotation: {} can only be applied to {}"),
    Code("IST0108", "UnknownAnnotation", _W, "Unknown annotation: {}"),
    Code(
        "IST0109",
        "ConflictingMeshGatewayVirtualServiceHosts",
        _E,
        "The VirtualServices {} associated with mesh gateway define the same host {} which can lead to undefined "
        "behavior. This can be fixed by merging the conflicting VirtualServices into a single resource.",
    ),
    Code(
        "IST0110",
        "ConflictingSidecarWorkloadSelectors",
        _E,
        'The Sidecars {} in namespace "{}" select the same workload pod "{}", which can lead to undefined behavior.',
    ),
    Code(
        "IST0111",
        "MultipleSidecarsWithoutWorkloadSelectors",
        _E,
        'The Sidecars {} in namespace "{}" have no workload selector, which can lead to undefined behavior.',
    ),
    Code(
        "IST0112",
        "VirtualServiceDestinationPortSelectorRequired",
        _E,
        'This VirtualService routes to a service "{}" that exposes multiple ports {}. Specifying a port in the '
        "destination is required to disambiguate.",
    ),
    Code(
        "IST0116",
        "DeploymentAssociatedToMultipleServices",
        _W,
        "This deployment {} is associated with multiple services using port {} but different protocols: {}",
    ),
    Code(
        "IST0118",
        "PortNameIsNotUnderNamingConvention",
        _I,
        "Port name {} (port: {}, targetPort: {}) doesn't follow the naming convention of Istio port.",
    ),
    Code("IST0122", "InvalidRegexp", _W, 'Field "{}" regular expression invalid: "{}" ({})'),
    Code(
        "IST0123",
        "NamespaceMultipleInjectionLabels",
        _W,
        "The namespace has more than one type of injection labels {}, which may lead to undefined behavior. Make sure "
        "only one injection label exists.",
    ),
    Code("IST0125", "InvalidAnnotation", _W, "Invalid annotation {}: {}"),
    Code(
        "IST0127",
        "NoMatchingWorkloadsFound",
        _W,
        "No matching workloads for this resource with the following labels: {}",
    ),
    Code(
        "IST0128",
        "NoServerCertificateVerificationDestinationLevel",
        _W,
        "DestinationRule {} in namespace {} has TLS mode set to {} but no caCertificates are set to validate server "
        "identity for host: {}",
    ),
    Code(
        "IST0129",
        "NoServerCertificateVerificationPortLevel",
        _W,
        "DestinationRule {} in namespace {} has TLS mode set to {} but no caCertificates are set to validate server "
        "identity for host: {} at port {}",
    ),
    Code("IST0130", "VirtualServiceUnreachableRule", _W, "VirtualService rule {} not used ({})."),
    Code(
        "IST0131",
        "VirtualServiceIneffectiveMatch",
        _I,
        "VirtualService rule {} match {} is not used (duplicate/overlapping match in rule {}).",
    ),
    Code(
        "IST0132",
        "VirtualServiceHostNotFoundInGateway",
        _W,
        "one or more host {} defined in VirtualService {} not found in Gateway {}.",
    ),
    Code("IST0133", "SchemaWarning", _W, "Schema validation warning: {}"),
    Code("IST0134", "ServiceEntryAddressesRequired", _W, "ServiceEntry addresses are required for this protocol."),
    Code(
        "IST0135",
        "DeprecatedAnnotation",
        _I,
        'Annotation "{}" has been deprecated{} and may not work in future Istio versions.',
    ),
    Code(
        "IST0137",
        "DeploymentConflictingPorts",
        _W,
        'This deployment {} is associated with multiple services {} using targetPort "{}" but different ports: {}.',
    ),
    Code(
        "IST0138",
        "GatewayDuplicateCertificate",
        _W,
        "Duplicate certificate in multiple gateways {} may cause 404s if clients re-use HTTP2 connections.",
    ),
    Code(
        "IST0140",
        "IngressRouteRulesNotAffected",
        _W,
        "Subset in virtual service {} has no effect on ingress gateway {} requests",
    ),
    Code("IST0144", "InvalidApplicationUID", _W, "User ID (UID) 1337 is reserved for the sidecar proxy."),
    Code(
        "IST0145",
        "ConflictingGateways",
        _E,
        "Conflict with gateways {} (workload selector {}, port {}, hosts {}).",
    ),
    Code(
        "IST0146",
        "ImageAutoWithoutInjectionWarning",
        _W,
        "{} {} contains `image: auto` but does not match any Istio injection webhook selectors.",
    ),
    Code(
        "IST0147",
        "ImageAutoWithoutInjectionError",
        _E,
        "{} {} contains `image: auto` but does not match any Istio injection webhook selectors.",
    ),
    Code(
        "IST0148",
        "NamespaceInjectionEnabledByDefault",
        _I,
        "is enabled for Istio injection, as Istio is installed with enableNamespacesByDefault as true.",
    ),
    Code(
        "IST0149",
        "JwtClaimBasedRoutingWithoutRequestAuthN",
        _E,
        "The virtual service uses the JWT claim based routing (key: {}) but found no request authentication for the "
        "gateway ({}) pod ({}). The request authentication must first be applied for the gateway pods to validate the "
        "JWT token and make the claims available for routing.",
    ),
    Code(
        "IST0150",
        "ExternalNameServiceTypeInvalidPortName",
        _W,
        "Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and unmatched traffic for "
        "ports serving TCP protocol from being forwarded correctly",
    ),
    Code(
        "IST0158",
        "PodsIstioProxyImageMismatchInNamespace",
        _W,
        "The Istio proxy images of the pods running in the namespace do not match the image defined in the injection "
        "configuration (pod names: {}). This often happens after upgrading the Istio control-plane and can be fixed "
        "by redeploying the pods.",
    ),
    Code(
        "IST0161",
        "InvalidGatewayCredential",
        _E,
        "The credential referenced by the Gateway {} in namespace {} is invalid, which can cause the traffic not to "
        "work as expected.",
    ),
    Code(
        "IST0162",
        "GatewayPortNotDefinedOnService",
        _W,
        "The gateway is listening on a target port (port {}) that is not defined in the Service associated with its "
        "workload instances (Pod selector {}). If you need to access the gateway port through the gateway Service, it "
        "will not be available.",
    ),
    Code(
        "IST0173",
        "DestinationRuleSubsetNotSelectPods",
        _E,
        "The Subset {} defined in the DestinationRule does not select any pods. Which may lead to 503 UH "
        "(NoHealthyUpstream).",
    ),
    Code(
        "IST0174",
        "UnknownDestinationRuleHost",
        _W,
        "The host {} defined in the DestinationRule does not match any services in the mesh.",
    ),
    Code("KIA0002", "MultipleSelectorless", _E, "More than one selector-less object in the same namespace"),
    Code("KIA0003", "MultipleForOneWorkload", _E, "More than one object applied to the same workload"),
    Code("KIA0004", "NoWorkload", _W, "No matching workload found for the selector in this namespace"),
    Code("KIA0005", "NoExportNamespace", _E, "No matching namespace found or namespace is not accessible"),
    Code("KIA0101", "SourceNamespaceNotFound", _W, "Namespace not found for this rule"),
    Code("KIA0102", "WrongMethod", _W, "Only HTTP methods and fully-qualified gRPC names are allowed"),
    Code("KIA0104", "OperationHostNotFound", _E, "This host has no matching entry in the service registry"),
    Code("KIA0105", "NeedsMutualTLS", _E, "This field requires mTLS to be enabled"),
    Code("KIA0106", "PrincipalNotFound", _E, "Service Account not found for this principal"),
    Code(
        "KIA0201",
        "MultipleRulesForHost",
        _W,
        "More than one DestinationRules for the same host subset combination",
    ),
    Code(
        "KIA0202",
        "RuleHostNotFound",
        _E,
        "This host has no matching entry in the service registry (service, workload or service entries)",
    ),
    Code("KIA0203", "SubsetLabelsNotFound", _E, "This subset's labels are not found in any matching host"),
    Code("KIA0204", "OverridesMutualTLS", _W, "mTLS settings of a non-local Destination Rule are overridden"),
    Code("KIA0205", "MeshPolicyMissing", _E, "PeerAuthentication enabling mTLS at mesh level is missing"),
    Code("KIA0206", "NamespacePolicyMissing", _E, "PeerAuthentication enabling namespace-wide mTLS is missing"),
    Code(
        "KIA0207",
        "StrictPolicyFound",
        _E,
        "PeerAuthentication with TLS strict mode found, it should be permissive",
    ),
    Code("KIA0208", "StrictMeshPolicyFound", _E, "PeerAuthentication enabling mTLS found, permissive mode needed"),
    Code("KIA0209", "SubsetWithoutLabels", _W, "This subset has not labels"),
    Code("KIA0301", "MultipleGatewaysForHost", _W, "More than one Gateway for the same host port combination"),
    Code(
        "KIA0302",
        "GatewayWithoutWorkload",
        _W,
        "No matching workload found for gateway selector in this namespace",
    ),
    Code("KIA0401", "MeshRuleMissing", _E, "Mesh-wide Destination Rule enabling mTLS is missing"),
    Code("KIA0501", "NamespaceRuleMissing", _E, "Destination Rule enabling namespace-wide mTLS is missing"),
    Code("KIA0505", "DisablingRuleMissing", _E, "Destination Rule disabling namespace-wide mTLS is missing"),
    Code("KIA0506", "DisablingMeshRuleMissing", _E, "Destination Rule disabling mesh-wide mTLS is missing"),
    Code("KIA0601", "PortName", _E, "Port name must follow <protocol>[-suffix] form"),
    Code("KIA0602", "PortAppProtocol", _E, "Port appProtocol must follow <protocol> form"),
    Code("KIA0701", "ContainerPortMissing", _W, "Deployment exposing same port as Service not found"),
    Code("KIA1006", "GlobalSidecarWithSelector", _W, "Global default sidecar should not have workloadSelector"),
    Code(
        "KIA1101",
        "RouteHostNotFound",
        _E,
        "DestinationWeight on route doesn't have a valid service (host not found)",
    ),
    Code("KIA1102", "GatewayNotFound", _E, "VirtualService is pointing to a non-existent gateway"),
    Code(
        "KIA1104",
        "SingleWeight",
        _W,
        "The weight is assumed to be 100 because there is only one route destination",
    ),
    Code(
        "KIA1105",
        "RepeatedSubset",
        _W,
        "This host subset combination is already referenced in another route destination",
    ),
    Code("KIA1106", "MultipleVirtualServicesForHost", _W, "More than one Virtual Service for same host"),
    Code("KIA1107", "SubsetNotFound", _W, "Subset not found"),
)

CODES: Mapping[str, Code] = {one.code: one for one in _ALL}
"""Every code that an analysis can find."""
