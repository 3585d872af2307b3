"""What is asked of ServiceEntry, WorkloadEntry and WorkloadGroup, in Istio's words.

pkg/config/validation/validation.go ValidateServiceEntry, ValidateWorkloadEntry, ValidateWorkloadGroup, and
pilot/pkg/networking/serviceentry for the addresses that Istio gives by itself.
"""

from __future__ import annotations

import re

from labkit.policy.validation.common import (
    HTTP,
    TCP,
    TLS,
    UNIX_PREFIX,
    export_to,
    fqdn,
    is_address,
    known_protocol,
    labels,
    partial_wildcard,
    port_name,
    port_number,
    protocol,
    subnet,
    unix_address,
    wildcard_domain,
    workload_selector,
)
from labkit.policy.validation.findings import Findings, Object, Remark, block, items, present, quoted

_DNS = ("DNS", "DNS_ROUND_ROBIN")


def service_entry(obj: Object) -> Findings:
    """A whole ServiceEntry."""
    spec = block(obj, "spec")
    errors, remarks = workload_selector(spec, "service entry")
    if errors:
        yield from errors
        return
    yield from remarks
    if present(spec, "workloadSelector") and items(spec, "endpoints"):
        yield "only one of WorkloadSelector or Endpoints is allowed in Service Entry"
    yield from _hosts(items(spec, "hosts"))
    yield from _addresses(spec)
    yield from _ports(obj, spec)
    yield from _endpoints(spec)
    several = _resolution(spec) != "NONE" and len(items(spec, "hosts")) > 1
    if several and any(protocol(port) not in HTTP | TLS for port in items(spec, "ports")):
        yield "multiple hosts provided with non-HTTP, non-TLS ports"
    yield from export_to(obj, service_entry=True)


def _resolution(spec: Object) -> str:
    return str(spec.get("resolution") or "NONE")


def _hosts(hosts: list[str]) -> Findings:
    if not hosts:
        yield "service entry must have at least one host"
    for host in hosts:
        if host == "*":
            yield f"invalid host {host}"
        else:
            yield from wildcard_domain(host)
            yield from map(Remark, partial_wildcard(host))


def _addresses(spec: Object) -> Findings:
    addresses = items(spec, "addresses")
    for one in addresses:
        yield from subnet(one)
    if any("/" in one for one in addresses) and _resolution(spec) not in ("NONE", "STATIC"):
        yield "CIDR addresses are allowed only for NONE/STATIC resolution types"


def _ports(obj: Object, spec: Object) -> Findings:
    names, numbers = set(), set()
    needs_address = not items(spec, "addresses") and not _gets_an_address(obj, spec)
    for port in items(spec, "ports"):
        name, number = str(port.get("name") or ""), int(port.get("number") or 0)
        if name in names:
            yield f"service entry port name {quoted(name)} already defined"
        if number in numbers:
            yield f"service entry port {number} already defined"
        names.add(name)
        numbers.add(number)
        if port.get("targetPort"):
            yield from port_number(port["targetPort"])
        if needs_address and (port.get("protocol") or "TCP") == "TCP":
            yield Remark(
                "addresses are required for ports serving TCP (or unset) protocol when IP Autoallocation is not enabled"
            )
        yield from port_name(name)
        yield from known_protocol(port)
        yield from port_number(number)


def _gets_an_address(obj: Object, spec: Object) -> bool:
    """Whether Istio gives the host an address by itself."""
    wanted = (obj.get("metadata") or {}).get("labels") or {}
    switched_off = str(wanted.get("networking.istio.io/enable-autoallocate-ip") or "").lower() == "false"
    return _resolution(spec) != "NONE" and not switched_off


def _endpoints(spec: Object) -> Findings:
    resolution, endpoints = _resolution(spec), items(spec, "endpoints")
    names = {str(port.get("name") or "") for port in items(spec, "ports")}
    if resolution == "NONE":
        if endpoints:
            yield "no endpoints should be provided for resolution type none"
        if present(spec, "workloadSelector"):
            yield Remark("workloadSelector should not be set when resolution mode is NONE")
    elif resolution == "STATIC":
        for one in endpoints:
            yield from endpoint(one, names, names_allowed=False)
    elif resolution in _DNS:
        yield from _looked_up(spec, resolution, endpoints, names)
    else:
        yield f"unsupported resolution type {resolution}"


def _looked_up(spec: Object, resolution: str, endpoints: list[Object], names: set[str]) -> Findings:
    hosts = [str(one) for one in items(spec, "hosts")]
    if not endpoints:
        for host in hosts:
            if any(fqdn(host)):
                yield f"hosts must be FQDN if no endpoints are provided for resolution mode {resolution}"
    if resolution == "DNS_ROUND_ROBIN" and len(endpoints) > 1:
        yield f"there must only be 0 or 1 endpoint for resolution mode {resolution}"
    for one in endpoints:
        address = str(one.get("address") or "")
        if not is_address(address) and any(fqdn(address)):
            yield f"endpoint address {quoted(address)} is not a valid FQDN or an IP address"
        yield from labels(one.get("labels"))
        yield from _endpoint_ports(one, names)
    if items(spec, "addresses") and len(hosts) > 1 and any(protocol(port) in TCP for port in items(spec, "ports")):
        yield Remark("service entry can not have more than one host specified simultaneously with address and tcp port")


def _endpoint_ports(one: Object, names: set[str] | None) -> Findings:
    for name, port in (one.get("ports") or {}).items():
        if names is not None and name not in names:
            yield f"endpoint port {port} is not defined by the service entry"
        yield from port_name(name)
        yield from port_number(port)


def workload_entry(obj: Object) -> Findings:
    """An object of its own: which Services it belongs to is not known."""
    yield from endpoint(block(obj, "spec"), None, names_allowed=True)


def endpoint(one: Object, names: set[str] | None, *, names_allowed: bool) -> Findings:
    """An address; `names` are the ports of the ServiceEntry, if it is known."""
    address = str(one.get("address") or "")
    if not address and not one.get("network"):
        yield "address is required"
        return
    if not address:
        yield Remark(f"address is unset with network {quoted(one['network'])}")
    unix = address.startswith(UNIX_PREFIX)
    if unix:
        yield from unix_address(address.removeprefix(UNIX_PREFIX))
        if one.get("ports"):
            yield f"unix endpoint {address} must not include ports"
    elif address and not is_address(address):
        if not names_allowed:
            yield f"endpoint address {quoted(address)} is not a valid IP address"
        elif any(fqdn(address)):
            yield f"endpoint address {quoted(address)} is not a valid FQDN or an IP address"
    yield from _endpoint_ports(one, names)
    yield from labels(one.get("labels"))
    if unix and names is not None and len(names) != 1:
        yield "exactly 1 service port required for unix endpoints"


def workload_group(obj: Object) -> Findings:
    """A template, of which the addresses come later."""
    spec = block(obj, "spec")
    if not present(spec, "template"):
        yield "template is required"
        return
    wrong = list(labels(block(spec, "metadata").get("labels")))
    if wrong:
        yield f"invalid labels: {_in_one(wrong)}"
    else:
        yield from _probe(spec.get("probe"))


def _in_one(errors: list[str]) -> str:
    if len(errors) == 1:
        return f"1 error occurred:\n\t* {errors[0]}\n\n"
    return f"{len(errors)} errors occurred:\n\t" + "\n\t".join(f"* {one}" for one in errors) + "\n\n"


_PROBE_COUNTS = ("periodSeconds", "initialDelaySeconds", "timeoutSeconds", "successThreshold", "failureThreshold")


def _probe(probe: Object | None) -> Findings:
    if probe is None:
        return
    for name in _PROBE_COUNTS:
        if (probe.get(name) or 0) < 0:
            yield f"{name} must be non-negative"
    if present(probe, "httpGet"):
        http = probe["httpGet"]
        yield from port_number(http.get("port"))
        if http.get("scheme") not in (None, "", "HTTP", "HTTPS"):
            yield 'httpGet.scheme must be one of "HTTPS", "HTTP"'
        for header in items(http, "httpHeaders"):
            yield from _header(str(header.get("name") or ""))
    elif present(probe, "tcpSocket"):
        yield from port_number(probe["tcpSocket"].get("port"))
    elif present(probe, "exec"):
        if not items(probe["exec"], "command"):
            yield "exec.command is required"
    else:
        yield "unknown health check method <nil>"


def _header(name: str) -> Findings:
    if not name:
        yield "header name cannot be empty"
    elif not re.fullmatch(r"[-A-Za-z0-9]+", name):
        yield f"header name {name} is not a valid header name"
