"""What is asked of a Sidecar, in Istio's words: pkg/config/validation/validation.go ValidateSidecar."""

from __future__ import annotations

from labkit.policy.validation.common import (
    HTTP,
    TLS,
    UNIX_PREFIX,
    address,
    fqdn,
    known_protocol,
    namespaced_host,
    port_name,
    port_number,
    protocol,
    unix_address,
    workload_selector,
)
from labkit.policy.validation.destination_rule import connection_pool
from labkit.policy.validation.findings import Findings, Object, Remark, block, items, present, quoted
from labkit.policy.validation.gateway import server_tls
from labkit.policy.validation.routes import destination

_LOCAL = ("", "127.0.0.1", "0.0.0.0", "::1", "::")
_ENDPOINTS = "127.0.0.1:<port>,0.0.0.0:<port>,[::1]:port,[::]:port,unix://filepath or unset"
_SAME_PORT = "sidecar: ports on IP bound listeners must be unique"


def sidecar(obj: Object) -> Findings:
    """A whole Sidecar."""
    spec = block(obj, "spec")
    errors, remarks = workload_selector(spec, "sidecar")
    if errors:
        yield from errors
        return
    ingress, egress = items(spec, "ingress"), items(spec, "egress")
    if not (ingress or egress or any(present(spec, one) for one in ("outboundTrafficPolicy", "inboundConnectionPool"))):
        yield "sidecar: empty configuration provided"
        return
    yield from remarks
    yield from _ingress(ingress)
    yield from connection_pool(spec.get("inboundConnectionPool"))
    yield from _egress(egress, str((obj.get("metadata") or {}).get("namespace") or "default"))
    yield from _outbound(spec.get("outboundTrafficPolicy"))


def _ingress(listeners: list[Object]) -> Findings:
    numbers = set()
    for one in listeners:
        if not present(one, "port"):
            yield "sidecar: port is required for ingress listeners"
            continue
        port = one["port"]
        number = int(port.get("number") or 0)
        yield from _target_port(port)
        yield from _port(port, str(one.get("bind") or ""))
        if number in numbers:
            yield _SAME_PORT
        numbers.add(number)
        yield from _default_endpoint(str(one.get("defaultEndpoint") or ""))
        yield from _tls(one.get("tls"), port)
        yield from connection_pool(one.get("connectionPool"))
        if present(block(one, "connectionPool"), "http") and protocol(port) not in HTTP:
            yield Remark(
                f"sidecar: HTTP connection pool settings are configured for port {number} "
                f"({quoted(port.get('name') or '')}) but its protocol is not HTTP ({port.get('protocol') or ''}); "
                "only TCP settings will apply"
            )


def _target_port(port: Object) -> Findings:
    if (port.get("targetPort") or 0) > 0:
        yield "targetPort has no impact on Sidecars"


def _port(port: Object, bind: str) -> Findings:
    if port.get("name"):
        yield from port_name(port["name"])
    yield from known_protocol(port)
    yield from port_number(port.get("number"))
    if bind:
        yield from address(bind)


def _default_endpoint(written: str) -> Findings:
    if not written:
        return
    if written.startswith(UNIX_PREFIX):
        yield from unix_address(written.removeprefix(UNIX_PREFIX))
        return
    host, colon, port = written.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif not colon:
        yield f"address {written}: missing port in address"
        host, port = "", ""
    elif ":" in host:
        yield f"address {written}: too many colons in address"
        host, port = "", ""
    if host not in _LOCAL:
        yield f"sidecar: defaultEndpoint must be of form {_ENDPOINTS}"
    if port.removeprefix("-").isdigit():
        yield from port_number(port)
    else:
        why = f"strconv.Atoi: parsing {quoted(port)}: invalid syntax"
        yield f"sidecar: defaultEndpoint port ({port}) is not a number: {why}"


_NO_TLS = {
    "subjectAltNames": "sidecar: subjectAltNames is not supported in ingress tls",
    "httpsRedirect": "sidecar: httpsRedirect is not supported",
    "credentialName": "sidecar: credentialName is not currently supported",
    "credentialNames": "sidecar: credentialNames is not currently supported",
    "tlsCertificates": "sidecar: tls_certificates is not currently supported",
}


def _tls(tls: Object | None, port: Object) -> Findings:
    if tls is None:
        return
    for name, words in _NO_TLS.items():
        if tls.get(name):
            yield words
    if tls.get("mode") in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH"):
        yield f"configuration is invalid: cannot set mode to {tls['mode']} in sidecar ingress tls"
    if protocol(port) not in TLS:
        yield "server cannot have TLS settings for non HTTPS/TLS ports"
    yield from server_tls(tls)


def _egress(listeners: list[Object], namespace: str) -> Findings:
    numbers, sockets = set(), set()
    catch_all = False
    for index, one in enumerate(listeners):
        if not present(one, "port"):
            if catch_all:
                yield "sidecar: egress can have only one listener with empty port"
                continue
            catch_all = index == len(listeners) - 1
            if not catch_all:
                yield "sidecar: the egress listener with empty port should be the last listener in the list"
        else:
            bind, number = str(one.get("bind") or ""), int(one["port"].get("number") or 0)
            yield from _target_port(one["port"])
            yield from _egress_port(one["port"], bind, str(one.get("captureMode") or "DEFAULT"))
            if not number:
                if bind in sockets:
                    yield "sidecar: unix domain socket values for listeners must be unique"
                sockets.add(bind)
            else:
                if number in numbers:
                    yield _SAME_PORT
                numbers.add(number)
        yield from _egress_hosts([str(host) for host in items(one, "hosts")], namespace)


def _egress_port(port: Object, bind: str, capture_mode: str) -> Findings:
    if port.get("number"):
        yield from _port(port, bind)
        return
    if port.get("name"):
        yield from port_name(port["name"])
    yield from known_protocol(port)
    if bind.startswith(UNIX_PREFIX):
        yield from unix_address(bind.removeprefix(UNIX_PREFIX))
    else:
        yield "sidecar: ports with 0 value must have a unix domain socket bind address"
    if capture_mode not in ("DEFAULT", "NONE"):
        yield "sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners"


def _egress_hosts(hosts: list[str], namespace: str) -> Findings:
    if not hosts:
        yield "sidecar: egress listener must contain at least one host"
        return
    seen: dict[str, set[str]] = {}
    for written in hosts:
        where, slash, host = written.partition("/")
        if slash:
            known = seen.setdefault(namespace if where == "." else where, set())
            if known if host == "*" else known & {host, "*"}:
                yield Remark(f"duplicated egress host: {written}")
            known.add(host)
        yield from namespaced_host(written, gateway=False)
    if "*" in seen.get("*", ()) and len(seen) != 1:
        yield Remark("`*/*` host select all resources, no other hosts can be added")


def _outbound(policy: Object | None) -> Findings:
    if policy is None or not present(policy, "egressProxy"):
        return
    proxy = policy["egressProxy"]
    if policy.get("mode") != "ALLOW_ANY":
        yield "sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode"
        return
    yield from fqdn(str(proxy.get("host") or ""))
    if not present(proxy, "port"):
        yield "sidecar: egress_proxy port must be non-nil"
    else:
        yield from destination(proxy)
