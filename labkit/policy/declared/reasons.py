"""Why an edge is as it is: each deciding object, with the rule in one sentence and Istio's page about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from labkit.outcomes import DecidingPolicy, Scope

DOCS = "https://istio.io/latest/docs/"


class Rule(Enum):
    """The rules of Istio that decide about edges: (sentence, page)."""

    PEER_AUTHENTICATION = (
        "The narrowest PeerAuthentication that sets a mode decides what a sidecar accepts: port, workload, namespace, "
        "mesh; without any it is PERMISSIVE.",
        "concepts/security/#peer-authentication",
    )
    NO_SERVER_SIDECAR = (
        "Policies are enforced by the server's sidecar; without one its application meets the bytes as they come.",
        "concepts/security/#authentication-architecture",
    )
    NOT_CAPTURED = (
        "A port that is excluded from the redirection never meets the sidecar, so no policy touches it.",
        "reference/config/annotations/#SidecarTrafficExcludeInboundPorts",
    )
    NO_CLIENT_SIDECAR = (
        "Only a sidecar encrypts: a pod without one sends what its application sends.",
        "setup/additional-setup/sidecar-injection/",
    )
    AUTO_MTLS = (
        "Auto mTLS: a client's sidecar sends mTLS to endpoints with a sidecar whose mode is not DISABLE, and plaintext "
        "to all others.",
        "ops/configuration/traffic-management/tls-configuration/#auto-mtls",
    )
    AUTO_MTLS_OFF = (
        "With enableAutoMtls false, sidecars send mTLS only where a DestinationRule says so.",
        "reference/config/istio.mesh.v1alpha1/#MeshConfig-enable_auto_mtls",
    )
    NAMESPACE_DISABLED = (
        "Where the mode of the server's namespace is DISABLE, clients send plaintext to all of it, whatever single "
        "workloads say.",
        "concepts/security/#mutual-tls-authentication",
    )
    DESTINATION_RULE = (
        "The tls settings of a DestinationRule override auto mTLS, for every endpoint alike.",
        "reference/config/networking/destination-rule/#ClientTLSSettings",
    )
    VIRTUAL_SERVICE = (
        "A VirtualService for the host decides where a request goes: to which host, port and subset.",
        "reference/config/networking/virtual-service/",
    )
    GATEWAY_ROUTE = (
        "A gateway sends only where a VirtualService leads that names its Gateway.",
        "concepts/traffic-management/#gateways",
    )
    GATEWAY_SERVER = (
        "What a gateway accepts is said by its Gateway's servers; PeerAuthentication has no part in it.",
        "reference/config/networking/gateway/#ServerTLSSettings",
    )
    SIDECAR_SCOPE = (
        "A Sidecar's egress hosts are all that a proxy knows; the rest is passed on as it is, or blocked under "
        "REGISTRY_ONLY.",
        "reference/config/networking/sidecar/",
    )
    REGISTRY_ONLY = (
        "Under REGISTRY_ONLY a sidecar blocks every host that the mesh does not know.",
        "tasks/traffic-management/egress/egress-control/",
    )
    SERVICE_ENTRY = (
        "A host outside of the mesh is sent plaintext unless a DestinationRule originates TLS.",
        "reference/config/networking/service-entry/",
    )
    DOUBLE_TLS = (
        "TLS that a client's proxy originates goes around what the application sends, also where that is TLS.",
        "ops/common-problems/network-issues/",
    )
    AUTHORIZATION = (
        "What a DENY matches is refused; once a workload has an ALLOW, so is all that no ALLOW matches.",
        "concepts/security/#implicit-enablement",
    )
    PASSED_ON = (
        "A call to a pod's own address is passed on as it is, without mTLS.",
        "ops/configuration/traffic-management/traffic-routing/",
    )
    HEADLESS = (
        "Towards a headless Service a sidecar uses mTLS for all endpoints or for none.",
        "ops/configuration/traffic-management/traffic-routing/#headless-services",
    )
    PROTOCOL = (
        "The declared protocol of a port decides how a proxy reads it: by the port's name or appProtocol.",
        "ops/configuration/traffic-management/protocol-selection/",
    )
    NO_ENDPOINT = (
        "A sidecar answers 503 itself where nobody stands behind a host.",
        "ops/common-problems/network-issues/#503-errors-after-setting-destination-rule",
    )

    SUBSET = (
        "A route to a subset that no DestinationRule defines leads nowhere.",
        "ops/common-problems/network-issues/#503-errors-after-setting-destination-rule",
    )
    IDENTITY = (
        "A client checks whom it speaks to: the server's SPIFFE ID must be among the names that it expects.",
        "concepts/security/#secure-naming",
    )
    ROUTED_AWAY = (
        "What a client's own proxy answers never reaches the server.",
        "reference/config/networking/virtual-service/#HTTPRoute",
    )

    @property
    def sentence(self) -> str:
        return str(self.value[0])

    @property
    def link(self) -> str:
        return DOCS + str(self.value[1])

    @property
    def side(self) -> str:
        """Who acts by it: `client` or `server`."""
        return "server" if self in _SERVER else "client"


_SERVER = frozenset(
    {Rule.PEER_AUTHENTICATION, Rule.NO_SERVER_SIDECAR, Rule.NOT_CAPTURED, Rule.GATEWAY_SERVER, Rule.AUTHORIZATION}
    | {Rule.PROTOCOL, Rule.NO_ENDPOINT}
)


@dataclass(frozen=True)
class Because:
    """One step of the way to a verdict: the rule, the object that set it (or nobody), and what it did here."""

    rule: Rule
    said: str
    by: DecidingPolicy | None = None

    @property
    def by_object(self) -> bool:
        """Whether an object set it."""
        return self.by is not None and not self.by.is_default

    @property
    def object(self) -> str:
        """`Kind namespace/name`, or what stands in for it."""
        if self.by is None or self.by.is_default:
            return "default" if self.rule is Rule.PEER_AUTHENTICATION else "-"
        name = f"{self.by.namespace}/{self.by.name}" if self.by.namespace else self.by.name
        return f"{self.by.kind} {name}"

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        by = self.by if self.by and not self.by.is_default else None
        return {
            "rule": self.rule.name.lower(),
            "kind": by.kind if by else "",
            "namespace": by.namespace if by else "",
            "name": by.name if by else "",
            "scope": str(by.scope) if by else "",
            "said": self.said,
            "sentence": self.rule.sentence,
            "link": self.rule.link,
        }


def an_object(kind: str, namespace: str, name: str, scope: Scope = Scope.WORKLOAD) -> DecidingPolicy:
    """An object, as a deciding one is named."""
    return DecidingPolicy(scope, namespace, name, kind)
