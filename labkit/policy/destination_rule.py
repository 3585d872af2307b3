"""What DestinationRules mean: which one a client follows for a service, and what it then says of a port or a subset.

https://istio.io/latest/docs/reference/config/networking/destination-rule/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from labkit.errors import InputError
from labkit.outcomes import DecidingPolicy, Scope
from labkit.policy.configs import Meta, exported, read_meta
from labkit.policy.selection import selector_labels
from labkit.policy.workload import Workload, labels_match

CLUSTER_DOMAIN = "cluster.local"


class ClientTLSMode(StrEnum):
    """What a rule makes clients send. The first is what an empty `tls: {}` means."""

    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


@dataclass(frozen=True)
class ClientTLSSettings:
    """`trafficPolicy.tls`. Certificates and revocation lists are files in the proxy."""

    mode: ClientTLSMode = ClientTLSMode.DISABLE
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: bool = False


@dataclass(frozen=True)
class TrafficPolicy:
    """What is said of a destination, a port or a subset. None stands for "not said"; `ports` are Service ports.

    All but `tls` and `ports` stay as they are written.
    """

    tls: ClientTLSSettings | None = None
    load_balancer: Mapping[str, Any] | None = None
    connection_pool: Mapping[str, Any] | None = None
    outlier_detection: Mapping[str, Any] | None = None
    proxy_protocol: Mapping[str, Any] | None = None
    retry_budget: Mapping[str, Any] | None = None
    ports: Mapping[int, TrafficPolicy] = field(default_factory=dict)

    def of_port(self, port: int) -> TrafficPolicy:
        """The policy of a port: its entry replaces all that stands above it; what the entry leaves out is default."""
        # pilot/pkg/networking/util GetPortLevelTrafficPolicy
        return self.ports.get(port) or replace(self, ports={})

    def over(self, wider: TrafficPolicy) -> TrafficPolicy:
        """This policy, with the fields of a wider one where it says nothing."""
        return TrafficPolicy(
            tls=self.tls if self.tls is not None else wider.tls,
            load_balancer=self.load_balancer if self.load_balancer is not None else wider.load_balancer,
            connection_pool=self.connection_pool if self.connection_pool is not None else wider.connection_pool,
            outlier_detection=self.outlier_detection if self.outlier_detection is not None else wider.outlier_detection,
            proxy_protocol=self.proxy_protocol if self.proxy_protocol is not None else wider.proxy_protocol,
            retry_budget=self.retry_budget if self.retry_budget is not None else wider.retry_budget,
        )


@dataclass(frozen=True)
class Subset:
    """A named part of a service: the endpoints with these labels."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    policy: TrafficPolicy = field(default_factory=TrafficPolicy)


@dataclass(frozen=True)
class DestinationRule:
    """One parsed rule, or several of one host merged; `host` is a full name or a pattern. `names` are its objects."""

    meta: Meta
    host: str
    policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: frozenset[str] = frozenset()
    selector: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def traffic_policy(self, port: int, subset: str = "") -> TrafficPolicy:
        """What holds for a Service port, or for one subset there."""
        # pilot/pkg/networking/util MergeSubsetTrafficPolicy
        whole = (self.policy or TrafficPolicy()).of_port(port)
        found = self.subset(subset)
        if found is None:
            return whole
        if port in found.policy.ports:
            return found.policy.ports[port]
        return replace(found.policy, ports={}).over(whole)

    def endpoint_tls(self, port: int, subset: str = "") -> ClientTLSSettings | None:
        """The TLS by which an endpoint is told that it is reached by mTLS. Unlike `traffic_policy`, an entry for the
        port that does not speak of TLS leaves it to the level above.
        """
        # pilot/pkg/xds/endpoints/mtls_checker.go
        found = self.subset(subset)
        for policy in (found.policy if found else None, self.policy):
            if policy:
                entry = policy.ports.get(port)
                if entry and entry.tls is not None:
                    return entry.tls
                if policy.tls is not None:
                    return policy.tls
        return None

    def subset(self, name: str) -> Subset | None:
        """The subset of this name."""
        return next((one for one in self.subsets if one.name == name), None)

    @property
    def decider(self) -> DecidingPolicy:
        """This rule, as a verdict names it."""
        return DecidingPolicy(Scope.WORKLOAD, self.meta.namespace, self.meta.name, "DestinationRule")

    def __str__(self) -> str:
        return f"DestinationRule {self.meta}"


def parse_destination_rule(obj: Mapping[str, Any]) -> DestinationRule:
    """Read a DestinationRule. Raises InputError for a TLS mode that does not exist."""
    meta, spec = read_meta(obj, kind="DestinationRule"), obj.get("spec") or {}
    policy = spec.get("trafficPolicy")
    return DestinationRule(
        meta=meta,
        host=full_name(str(spec.get("host") or ""), meta.namespace),
        policy=None if policy is None else _policy(policy),
        subsets=tuple(
            Subset(str(one.get("name") or ""), dict(one.get("labels") or {}), _policy(one.get("trafficPolicy") or {}))
            for one in spec.get("subsets") or ()
        ),
        export_to=frozenset(spec.get("exportTo") or ()),
        selector=selector_labels(spec, field="workloadSelector"),
        names=(meta.name,),
    )


def full_name(host: str, namespace: str) -> str:
    """A name without a dot is a Service of the object's own namespace; every other is meant as it is written."""
    # pkg/config/util/resolve.go ResolveShortnameToFQDN
    if not host or host.startswith("*") or "." in host or ":" in host:
        return host
    return f"{host}.{namespace}.svc.{CLUSTER_DOMAIN}"


def host_matches(pattern: str, host: str) -> bool:
    """`*` matches all; `*.local` matches what ends in .local."""
    return pattern == host or (pattern.startswith("*") and host.endswith(pattern[1:]))


# pilot/pkg/model/push_context.go destinationRule, setDestinationRules; config.go MostSpecificHostMatch
def destination_rule(
    rules: Iterable[DestinationRule], client: Workload, service_namespace: str, host: str, root_namespace: str
) -> DestinationRule | None:
    """The rule that a client's proxy follows for a service; None when there is none. The order:

    1. The client's own namespace. For a client in the root namespace only rules that are private to it count here.
    2. The service's namespace, rules that are exported to the client.
    3. The root namespace, rules that are exported.

    The first namespace with a match wins; nothing is merged across namespaces. Within it only the most specific host
    counts: a rule for the very host hides one for a pattern, also where it says nothing. Whether it is visible is
    asked afterwards: if the most specific one is not, none of that namespace counts.
    """
    known = list(rules)
    own = [one for one in known if one.meta.namespace == client.namespace]
    if client.namespace == root_namespace:
        own = [one for one in own if one.export_to and one.export_to <= {".", root_namespace}]
    if found := _most_specific(own, client, host):
        return found
    for namespace in (service_namespace, root_namespace):
        there = [one for one in known if one.meta.namespace == namespace]
        found = _most_specific(there, client, host)
        if found and exported(found.export_to, found.meta.namespace, client.namespace):
            return found
    return None


# pilot/pkg/networking/core/cluster_tls.go buildUpstreamClusterTLSContext
def client_credentials(rules: Iterable[DestinationRule], proxy: Workload, *, gateway: bool) -> set[str]:
    """The Secrets that rules may make a proxy use towards servers: a gateway's any, a sidecar's if they select it."""
    chosen = [
        one
        for one in rules
        if gateway
        or (one.selector and one.meta.namespace == proxy.namespace and labels_match(one.selector, proxy.labels))
    ]
    policies = [one for rule in chosen for one in (rule.policy, *(subset.policy for subset in rule.subsets)) if one]
    settings = [one.tls for policy in policies for one in (policy, *policy.ports.values()) if one.tls]
    return {one.credential_name for one in settings} - {""}


def _most_specific(rules: Iterable[DestinationRule], client: Workload, host: str) -> DestinationRule | None:
    usable = [
        one
        for one in rules
        if host_matches(one.host, host)
        # A rule with a workloadSelector is for clients of its own namespace alone.
        and (not one.selector or (one.meta.namespace == client.namespace and labels_match(one.selector, client.labels)))
    ]
    if not usable:
        return None
    best = max(usable, key=lambda one: (not one.host.startswith("*"), len(one.host))).host
    return _merged(sorted((one for one in usable if one.host == best), key=lambda one: one.meta.age_order))


def _merged(same_host: list[DestinationRule]) -> DestinationRule:
    """Rules of one host in one namespace as one: of subsets with one name the oldest counts, and of traffic policies
    the oldest that is there. Rules that are exported elsewhere stay apart. One with a selector comes first.
    """
    # pilot/pkg/model/destination_rule.go mergeDestinationRule
    same_host = sorted(same_host, key=lambda one: not one.selector)
    result, *others = same_host
    for other in others:
        if other.export_to != result.export_to and not result.selector:
            continue
        names = {one.name for one in result.subsets}
        result = replace(
            result,
            policy=result.policy if result.policy is not None else other.policy,
            subsets=(*result.subsets, *(one for one in other.subsets if one.name not in names)),
            names=(*result.names, *other.names),
        )
    return result


def _policy(written: Mapping[str, Any]) -> TrafficPolicy:
    return TrafficPolicy(
        tls=None if written.get("tls") is None else _tls(written["tls"]),
        load_balancer=written.get("loadBalancer"),
        connection_pool=written.get("connectionPool"),
        outlier_detection=written.get("outlierDetection"),
        proxy_protocol=written.get("proxyProtocol"),
        retry_budget=written.get("retryBudget"),
        ports={
            int((entry.get("port") or {}).get("number") or 0): _policy(entry)
            for entry in written.get("portLevelSettings") or ()
        },
    )


def _tls(written: Mapping[str, Any]) -> ClientTLSSettings:
    mode = str(written.get("mode") or ClientTLSMode.DISABLE)
    if mode not in set(ClientTLSMode):
        raise InputError(
            f"A DestinationRule has the TLS mode {mode!r}.",
            next_step=f"Write one of {', '.join(ClientTLSMode)}.",
            field="tls.mode",
        )
    return ClientTLSSettings(
        mode=ClientTLSMode(mode),
        client_certificate=str(written.get("clientCertificate") or ""),
        private_key=str(written.get("privateKey") or ""),
        ca_certificates=str(written.get("caCertificates") or ""),
        ca_crl=str(written.get("caCrl") or ""),
        credential_name=str(written.get("credentialName") or ""),
        subject_alt_names=tuple(written.get("subjectAltNames") or ()),
        sni=str(written.get("sni") or ""),
        insecure_skip_verify=bool(written.get("insecureSkipVerify")),
    )
