"""ServiceEntry, WorkloadEntry, WorkloadGroup: TestValidateServiceEntries, TestValidateWorkloadEntry,
TestValidateWorkloadGroup, and the rows of Test_validateExportTo about ~.
"""

from __future__ import annotations

import pytest

from tests.published.validation.rows import Row, check, parameters

TWO = "ports: [{number: 80, protocol: http, name: http-valid1}, {number: 8080, protocol: http, name: http-valid2}]"
ONE = "ports: [{number: 80, protocol: http, name: http-valid1}]"
HTTPS = f"{TWO[:-1]}, {{number: 443, protocol: https, name: https}}]"
LON_IN = (
    "endpoints: [{address: lon.google.com, ports: {http-valid1: 8080}}, "
    "{address: in.google.com, ports: {http-valid2: 9080}}]"
)
ADDRESSES = (
    "endpoints: [{address: 1.1.1.1, ports: {http-valid1: 8080}}, {address: 2.2.2.2, ports: {http-valid2: 9080}}]"
)
IN = "endpoints: [{address: in.google.com, ports: {http-valid1: 9080}}]"
GRPC = "ports: [{number: 6553, protocol: grpc, name: grpc-service1}]"
SELECTOR = "workloadSelector: {labels: {foo: bar}}"
DNS, STATIC = "resolution: DNS", "resolution: STATIC"
NONE_SELECTOR = "workloadSelector should not be set when resolution mode is NONE"
UNDEFINED = "endpoint port 9080 is not defined by the service entry"
NO_ADDRESS = "addresses are required for ports serving TCP (or unset) protocol"

# TestValidateServiceEntries
ENTRIES: list[Row] = [
    ("DNS", f"hosts: ['*.google.com'], {TWO}, {LON_IN}, {DNS}", "", ""),
    (
        "DNS round robin",
        f"hosts: ['*.istio.io'], {TWO}, endpoints: [{{address: api-v1.istio.io, ports: {{http-valid1: 8080}}}}], "
        "resolution: DNS_ROUND_ROBIN",
        "",
        "",
    ),
    (
        "DNS, label tlsMode: istio",
        f"hosts: ['*.google.com'], {ONE}, endpoints: "
        f"[{{address: lon.google.com, labels: {{security.istio.io/tlsMode: istio}}}}], {DNS}",
        "",
        "",
    ),
    ("DNS, one host, address, https", f"hosts: [httpbin.org], addresses: [10.10.10.10], {HTTPS}, {DNS}", "", ""),
    (
        "DNS, multi hosts, address, https",
        f"hosts: [httpbin.org, wikipedia.org], addresses: [10.10.10.10], {HTTPS}, {DNS}",
        "",
        "service entry can not have more than one host specified simultaneously with address and tcp port",
    ),
    ("DNS, address set", f"hosts: ['*.google.com'], addresses: [10.10.10.10], {TWO}, {LON_IN}, {DNS}", "", ""),
    ("DNS, IP in endpoints", f"hosts: ['*.google.com'], {TWO}, {ADDRESSES}, {DNS}", "", ""),
    ("empty hosts", f"{ONE}, {IN}, {DNS}", "service entry must have at least one host", ""),
    ("bad hosts", f"hosts: ['-'], {ONE}, {IN}, {DNS}", 'domain name "-" invalid (label "-" invalid)', ""),
    ("full wildcard host", f"hosts: [foo.com, '*'], {ONE}, {IN}, {DNS}", "invalid host *", ""),
    ("short name host", f"hosts: [foo, bar.com], {ONE}, {IN}, {DNS}", "", ""),
    (
        "undefined endpoint port",
        f"hosts: [google.com], {ONE}, endpoints: [{{address: in.google.com, ports: {{http-dne: 9080}}}}], {DNS}",
        UNDEFINED,
        "",
    ),
    (
        "DNS, non-FQDN endpoint",
        f"hosts: ['*.google.com'], {ONE}, endpoints: [{{address: '*.lon.google.com'}}], {DNS}",
        'endpoint address "*.lon.google.com" is not a valid FQDN or an IP address',
        "",
    ),
    (
        "DNS, non-FQDN host",
        f"hosts: ['*.google.com'], {TWO}, {DNS}",
        "hosts must be FQDN if no endpoints are provided for resolution mode DNS",
        "",
    ),
    ("DNS, no endpoints", f"hosts: [google.com], {TWO}, {DNS}", "", ""),
    (
        "DNS, unix endpoint",
        f"hosts: ['*.google.com'], {ONE}, endpoints: [{{address: 'unix:///lon/google/com'}}], {DNS}",
        'endpoint address "unix:///lon/google/com" is not a valid FQDN or an IP address',
        "",
    ),
    ("none", f"hosts: [google.com], {TWO}, resolution: NONE", "", ""),
    (
        "none, endpoints provided",
        f"hosts: [google.com], {TWO}, endpoints: [{{address: lon.google.com}}], resolution: NONE",
        "no endpoints should be provided for resolution type none",
        "",
    ),
    ("none, cidr", f"hosts: [google.com], addresses: [172.1.2.16/16], {TWO}, resolution: NONE", "", ""),
    ("static, cidr", f"hosts: [google.com], addresses: [172.1.2.16/16], {TWO}, {ADDRESSES}, {STATIC}", "", ""),
    ("static", f"hosts: [google.com], addresses: [172.1.2.16], {TWO}, {ADDRESSES}, {STATIC}", "", ""),
    (
        "static, FQDN in endpoints",
        f"hosts: [google.com], addresses: [172.1.2.16], {TWO}, endpoints: [{{address: google.com}}], {STATIC}",
        'endpoint address "google.com" is not a valid IP address',
        "",
    ),
    ("static, missing endpoints", f"hosts: [google.com], addresses: [172.1.2.16], {TWO}, {STATIC}", "", ""),
    (
        "static, bad endpoint port name",
        f"hosts: [google.com], {TWO}, endpoints: [{{address: 2.2.2.2, ports: {{http-dne: 9080}}}}], {STATIC}",
        UNDEFINED,
        "",
    ),
    (
        "none, conflicting port names",
        "hosts: [google.com], ports: [{number: 80, protocol: http, name: a}, {number: 8080, protocol: http, name: a}]",
        'service entry port name "a" already defined',
        "",
    ),
    (
        "none, conflicting port numbers",
        "hosts: [google.com], ports: [{number: 80, protocol: http, name: a}, {number: 80, protocol: http, name: b}]",
        "service entry port 80 already defined",
        "",
    ),
    ("unix socket", f"hosts: [a.local], {GRPC}, {STATIC}, endpoints: [{{address: 'unix:///path/to/socket'}}]", "", ""),
    (
        "unix socket, relative path",
        f"hosts: [a.local], {GRPC}, {STATIC}, endpoints: [{{address: 'unix://./relative/path.sock'}}]",
        "./relative/path.sock is not an absolute path to a file",
        "",
    ),
    (
        "unix socket, endpoint ports",
        f"hosts: [a.local], {GRPC}, {STATIC}, "
        "endpoints: [{address: 'unix:///path/to/socket', ports: {grpc-service1: 6553}}]",
        "unix endpoint unix:///path/to/socket must not include ports",
        "",
    ),
    (
        "unix socket, multiple service ports",
        f"hosts: [a.local], {TWO}, {STATIC}, endpoints: [{{address: 'unix:///path/to/socket'}}]",
        "exactly 1 service port required for unix endpoints",
        "",
    ),
    (
        "empty protocol",
        "hosts: [google.com], addresses: [172.1.2.16/16], ports: [{number: 8080, name: http-valid2}], resolution: NONE",
        "",
        "",
    ),
    ("selector", f"hosts: [google.com], {SELECTOR}, {ONE}", "", NONE_SELECTOR),
    (
        "workload selector without labels",
        f"hosts: [google.com], {TWO}, workloadSelector: {{}}",
        "",
        "service entry: workload selector specified without labels, will be applied to all services in namespace",
    ),
    (
        "selector and endpoints",
        f"hosts: [google.com], {SELECTOR}, {ONE}, endpoints: [{{address: 1.1.1.1}}]",
        "only one of WorkloadSelector or Endpoints is allowed in Service Entry",
        NONE_SELECTOR,
    ),
    ("selector and resolution NONE", f"hosts: [google.com], {SELECTOR}, {ONE}, resolution: NONE", "", NONE_SELECTOR),
    ("selector and resolution DNS", f"hosts: [google.com], {SELECTOR}, {ONE}, {DNS}", "", ""),
    (
        "bad selector key",
        f"hosts: [google.com], workloadSelector: {{labels: {{'': bar}}}}, {ONE}",
        'empty key is not supported in selector: "=bar"',
        "",
    ),
    (
        "repeat target port",
        f"hosts: [google.com], {DNS}, ports: [{{number: 80, protocol: http, name: a, targetPort: 80}}, "
        "{number: 81, protocol: http, name: b, targetPort: 80}]",
        "",
        "",
    ),
    (
        "invalid target port",
        f"hosts: [google.com], {DNS}, ports: [{{number: 80, protocol: http, name: a, targetPort: 65536}}]",
        "port number 65536 must be in the range 1..65535",
        "",
    ),
    (
        "valid endpoint port",
        f"hosts: [google.com], {ONE}, {STATIC}, endpoints: [{{address: 1.1.1.1, ports: {{http-valid1: 8081}}}}]",
        "",
        "",
    ),
    (
        "invalid endpoint port",
        f"hosts: [google.com], {ONE}, {STATIC}, endpoints: [{{address: 1.1.1.1, ports: {{http-valid1: 65536}}}}]",
        "port number 65536 must be in the range 1..65535",
        "",
    ),
    ("protocol unset, no addresses", "hosts: [google.com], ports: [{number: 8080, name: a}]", "", NO_ADDRESS),
    (
        "protocol TCP, no addresses",
        "hosts: [google.com], ports: [{number: 81, protocol: TCP, name: a}]",
        "",
        NO_ADDRESS,
    ),
    (
        "dns round robin with more than one endpoint",
        f"hosts: [google.com], {ONE}, endpoints: [{{address: api-v1.istio.io}}, {{address: 1.1.1.2}}], "
        "resolution: DNS_ROUND_ROBIN",
        "there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN",
        "",
    ),
    ("dns round robin with 0 endpoints", f"hosts: [google.com], {ONE}, resolution: DNS_ROUND_ROBIN", "", ""),
    (
        "partial wildcard hosts",
        "hosts: ['*.nytimes.com', '*washingtonpost.com'], ports: [{number: 443, protocol: HTTPS, name: https-nytimes}]",
        "",
        'partial wildcard "*washingtonpost.com" not allowed',
    ),
    (
        "network set with no address on endpoint",
        f"hosts: [www.example.com], {ONE}, endpoints: [{{network: cluster-1}}], {STATIC}",
        "",
        'address is unset with network "cluster-1"',
    ),
    # not in the table, but in ValidateServiceEntry
    (
        "several hosts over TCP",
        f"hosts: [a.com, b.com], {DNS}, ports: [{{number: 81, protocol: TCP, name: tcp}}]",
        "multiple hosts provided with non-HTTP, non-TLS ports",
        "",
    ),
    ("cidr and DNS", f"hosts: [a.com], addresses: [10.0.0.0/8], {ONE}, {DNS}", "only for NONE/STATIC resolution", ""),
    (
        "no address and no name",
        f"hosts: [a.com], addresses: [somewhere], {ONE}, {DNS}",
        "somewhere is not a valid IP",
        "",
    ),
    # Test_validateExportTo
    ("exportTo ~", f"hosts: [google.com], {ONE}, {DNS}, exportTo: ['~']", "", ""),
    ("exportTo ~ twice", f"hosts: [google.com], {ONE}, {DNS}, exportTo: ['~', '~', ns1]", "duplicate entries", ""),
    (
        "exportTo ~ and a namespace",
        f"hosts: [google.com], {ONE}, {DNS}, exportTo: ['~', ns1]",
        "cannot export service entry to no one (~) and someone",
        "",
    ),
]


@pytest.mark.parametrize(("spec", "error", "warning"), parameters(ENTRIES))
def test_service_entries(spec: str, error: str, warning: str) -> None:
    check("ServiceEntry", f"{{{spec}}}", error, warning)


# TestValidateWorkloadEntry
WORKLOADS: list[Row] = [
    ("valid", "{address: 1.2.3.4}", "", ""),
    ("missing address", "{}", "address is required", ""),
    ("missing address with network", "{network: network-2}", "", 'address is unset with network "network-2"'),
    ("valid unix endpoint", "{address: 'unix:///lon/google/com'}", "", ""),
    ("invalid unix endpoint", "{address: 'unix:///lon', ports: {'7777': 7777}}", "must not include ports", ""),
    ("valid FQDN", "{address: validdns.com, ports: {'7777': 7777}}", "", ""),
    (
        "invalid FQDN",
        "{address: 'invaliddns.com:9443', ports: {'7777': 7777}}",
        'endpoint address "invaliddns.com:9443" is not a valid FQDN or an IP address',
        "",
    ),
    ("valid IP", "{address: 172.16.1.1, ports: {'7777': 7777}}", "", ""),
]


@pytest.mark.parametrize(("spec", "error", "warning"), parameters(WORKLOADS))
def test_workload_entries(spec: str, error: str, warning: str) -> None:
    check("WorkloadEntry", spec, error, warning)


PORT = "port number 0 must be in the range 1..65535"
# TestValidateWorkloadGroup
GROUPS: list[Row] = [
    ("valid", "{template: {}}", "", ""),
    ("invalid", "{template: {}, metadata: {labels: {.: '~'}}}", 'invalid tag key: "."', ""),
    ("probe missing method", "{template: {}, probe: {}}", "unknown health check method <nil>", ""),
    ("probe http empty", "{template: {}, probe: {httpGet: {}}}", PORT, ""),
    ("probe http valid", "{template: {}, probe: {httpGet: {port: 5}}}", "", ""),
    ("probe tcp invalid", "{template: {}, probe: {tcpSocket: {}}}", PORT, ""),
    ("probe tcp valid", "{template: {}, probe: {tcpSocket: {port: 5}}}", "", ""),
    ("probe exec invalid", "{template: {}, probe: {exec: {}}}", "exec.command is required", ""),
    ("probe exec valid", "{template: {}, probe: {exec: {command: [foo, bar]}}}", "", ""),
]


@pytest.mark.parametrize(("spec", "error", "warning"), parameters(GROUPS))
def test_workload_groups(spec: str, error: str, warning: str) -> None:
    check("WorkloadGroup", spec, error, warning)
