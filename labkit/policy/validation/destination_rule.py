"""What is asked of a DestinationRule, in Istio's words.

pkg/config/validation/validation.go ValidateDestinationRule and pkg/config/validation/agent/validation.go ValidateTLS,
ValidateLocalityLbSetting of istio/istio.
"""

from __future__ import annotations

from labkit.policy.validation.common import (
    duration,
    export_to,
    fqdn,
    is_address,
    is_dns_label,
    labels,
    long_enough,
    milliseconds,
    port_number,
    selector,
    wildcard_domain,
)
from labkit.policy.validation.findings import Findings, Object, Remark, block, errors_of, items, present
from labkit.policy.validation.locality import locality

_PARTS = ("outlierDetection", "connectionPool", "loadBalancer", "tls")
_WHOLE = (*_PARTS, "portLevelSettings", "tunnel", "proxyProtocol")


def destination_rule(obj: Object) -> Findings:
    """A whole rule."""
    spec = block(obj, "spec")
    yield from wildcard_domain(str(spec.get("host") or ""))
    yield from _traffic_policy(spec.get("trafficPolicy"))
    seen = set()
    for subset in items(spec, "subsets"):
        name = str(subset.get("name") or "")
        if name in seen:
            yield f"duplicate subset names: {name}"
        seen.add(name)
        yield from errors_of(_subset(name, subset))
    yield from export_to(obj, selecting_rule=present(spec, "workloadSelector"))
    yield from selector(spec.get("workloadSelector"))


def _subset(name: str, subset: Object) -> Findings:
    yield from subset_name(name)
    yield from labels(subset.get("labels"))
    yield from _traffic_policy(subset.get("trafficPolicy"))


def subset_name(name: str) -> Findings:
    """The name of a subset, which is a part of the names of clusters and SNI."""
    if not name:
        yield "subset name cannot be empty"
    elif not is_dns_label(name):
        yield f"subset name is invalid: {name}"


def _traffic_policy(policy: Object | None) -> Findings:
    if policy is None:
        return
    if not any(present(policy, part) for part in _WHOLE):
        yield "traffic policy must have at least one field"
        return
    if present(policy, "tunnel") and present(policy, "proxyProtocol"):
        yield "tunnel and proxyProtocol must not be set together"
        return
    yield from _settings(policy)
    for one in items(policy, "portLevelSettings"):
        yield from errors_of(_of_port(one))
    yield from _tunnel(policy.get("tunnel"))
    if block(policy, "proxyProtocol").get("version") not in (None, "V1", "V2", 0, 1):
        yield f"proxy protocol version is invalid: {policy['proxyProtocol']['version']}"


def _of_port(policy: Object) -> Findings:
    if not present(policy, "port"):
        yield "portTrafficPolicy must have valid port"
    if any(present(policy, part) for part in _PARTS):
        yield from _settings(policy)
    else:
        yield "port traffic policy must have at least one field"


def _settings(policy: Object) -> Findings:
    yield from _outlier_detection(policy.get("outlierDetection"))
    yield from connection_pool(policy.get("connectionPool"))
    yield from _load_balancer(policy.get("loadBalancer"), policy.get("outlierDetection"))
    yield from client_tls(policy.get("tls"))


def client_tls(tls: Object | None) -> Findings:
    """How clients encrypt. More than it needs under ISTIO_MUTUAL is no error."""
    if tls is None:
        return
    mode, credential = tls.get("mode") or "DISABLE", tls.get("credentialName")
    names = bool(items(tls, "subjectAltNames"))
    if tls.get("insecureSkipVerify"):
        if mode == "SIMPLE" and (tls.get("caCertificates") or credential or names):
            several = "CaCertificates or CredentialName or SubjectAltNames"
            yield f"cannot specify {several} when InsecureSkipVerify is set true"
        if mode == "MUTUAL" and (tls.get("caCertificates") or names):
            yield "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set true"
    if mode in ("SIMPLE", "MUTUAL") and credential:
        if any(tls.get(one) for one in ("clientCertificate", "caCertificates", "privateKey", "caCrl")):
            yield "cannot specify client certificates or CA certificate or CA CRL If credentialName is set"
    elif mode == "MUTUAL":
        if not tls.get("clientCertificate"):
            yield "client certificate required for mutual tls"
        if not tls.get("privateKey"):
            yield "private key required for mutual tls"


def _outlier_detection(outlier: Object | None) -> Findings:
    if outlier is None:
        return
    yield from duration(outlier.get("baseEjectionTime"))
    if outlier.get("consecutiveErrors"):
        yield Remark(
            "outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or consecutive5xxErrors "
            "instead"
        )
    if not outlier.get("splitExternalLocalOriginErrors") and (outlier.get("consecutiveLocalOriginFailures") or 0) > 0:
        yield (
            "outlier detection consecutive local origin failures is specified, but split external local origin errors "
            "is set to false"
        )
    yield from duration(outlier.get("interval"))
    for name in ("maxEjectionPercent", "minHealthPercent"):
        value = int(outlier.get(name) or 0)
        if not 0 <= value <= 100:
            yield f"percentage {value} is not in range 0..100"


_HTTP_COUNTS = {
    "http1MaxPendingRequests": "http1 max pending requests",
    "http2MaxRequests": "http2 max requests",
    "maxRequestsPerConnection": "max requests per connection",
    "maxRetries": "max retries",
}


def connection_pool(pool: Object | None) -> Findings:
    """Limits of connections and requests; a Sidecar has them, too."""
    if pool is None:
        return
    if not present(pool, "http") and not present(pool, "tcp"):
        yield "connection pool must have at least one field"
        return
    http, tcp = block(pool, "http"), block(pool, "tcp")
    for name, words in _HTTP_COUNTS.items():
        yield from _not_negative(http, name, words)
    yield from duration(http.get("idleTimeout"))
    if http.get("h2UpgradePolicy") == "UPGRADE" and http.get("useClientProtocol"):
        yield "use client protocol must not be true when H2UpgradePolicy is UPGRADE"
    yield from _not_negative(http, "maxConcurrentStreams", "max concurrent streams")
    yield from _not_negative(tcp, "maxConnections", "max connections")
    yield from duration(tcp.get("connectTimeout"))
    yield from duration(tcp.get("maxConnectionDuration"))
    if tcp.get("idleTimeout") is not None and int(milliseconds(tcp["idleTimeout"])):  # 0s switches it off
        yield from duration(tcp["idleTimeout"])
    keepalive = block(tcp, "tcpKeepalive")
    yield from duration(keepalive.get("time"))
    yield from duration(keepalive.get("interval"))


def _not_negative(settings: Object, name: str, words: str) -> Findings:
    if int(settings.get(name) or 0) < 0:
        yield f"{words} must be non-negative"


def _load_balancer(balancer: Object | None, outlier: Object | None) -> Findings:
    if balancer is None:
        return
    yield from _consistent_hash(block(balancer, "consistentHash"))
    yield from locality(balancer.get("localityLbSetting"), outlier)
    yield from long_enough(balancer.get("warmupDurationSecs"), "warmupDurationSecs")
    warmup = balancer.get("warmup")
    if warmup is None:
        return
    if not present(warmup, "duration"):
        yield "duration is required"
    yield from duration(warmup.get("duration"))
    if (warmup.get("minimumPercent") or 0) > 100:
        yield "minimumPercent value should be less than or equal to 100"
    if warmup.get("aggression") is not None and warmup["aggression"] < 1:
        yield "aggression should be greater than or equal to 1"


def _consistent_hash(settings: Object) -> Findings:
    if present(settings, "httpCookie") and not settings["httpCookie"].get("name"):
        yield "name required for HttpCookie"
    if settings.get("minimumRingSize"):
        yield Remark(
            "consistent hash MinimumRingSize is deprecated, use ConsistentHashLB's RingHash configuration instead"
        )
        if present(settings, "maglev") or present(settings, "ringHash"):
            yield "only one of MinimumRingSize or Maglev/Ringhash can be specified"
    if present(settings, "maglev"):
        size = int(settings["maglev"].get("tableSize") or 0)
        if not size:
            yield "tableSize must be set for maglev"
        if size >= 5000011:
            yield "tableSize must be less than 5000011 for maglev"
        if not _is_prime(size):
            yield "tableSize must be a prime number for maglev"


def _is_prime(value: int) -> bool:
    if 0 < value < 4:
        return True
    return bool(value % 2) and all(value % factor for factor in range(3, int(value**0.5) + 1, 2))


def _tunnel(tunnel: Object | None) -> Findings:
    if tunnel is None:
        return
    if tunnel.get("protocol") not in (None, "", "CONNECT", "POST"):
        yield 'tunnel protocol must be "CONNECT" or "POST"'
    host = str(tunnel.get("targetHost") or "")
    if (wrong := next(fqdn(host), "")) and not is_address(host):
        yield f"tunnel target host must be valid FQDN or IP address: {wrong}; {host} is not a valid IP"
    if wrong := next(port_number(tunnel.get("targetPort")), ""):
        yield f"tunnel target port is invalid: {wrong}"
