"""What ServiceEntries and WorkloadEntries say, and which services and endpoints follow."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import InputError
from labkit.policy.configs import exported
from labkit.policy.protocols import Protocol
from labkit.policy.service_entry import (
    Location,
    Resolution,
    entry_from_group,
    parse_service_entry,
    parse_workload_entry,
    parse_workload_group,
)
from labkit.policy.workload import TLS_MODE_LABEL


def entry(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "api", "namespace": "shop"}, "spec": {"hosts": ["api.example.com"], **spec}}


def test_what_is_not_said_has_istios_defaults() -> None:
    parsed = parse_service_entry(entry(ports=[{"number": 443, "name": "tls", "protocol": "TLS"}]))
    assert (parsed.location, parsed.resolution) == (Location.MESH_EXTERNAL, Resolution.NONE)
    assert parsed.ports[0].target == 443 and parsed.ports[0].protocol is Protocol.TLS


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"name": "x", "protocol": "HTTP"}, Protocol.HTTP),
        ({"name": "http-x", "protocol": "TCP"}, Protocol.TCP),  # the field comes before the name
        ({"name": "http-x"}, Protocol.HTTP),
        ({"name": "x"}, Protocol.UNDECLARED),
        ({"name": "x", "protocol": "GRPC"}, Protocol.GRPC),
    ],
)
def test_the_protocol_has_a_field_of_its_own(written: dict[str, Any], expected: Protocol) -> None:
    assert parse_service_entry(entry(ports=[{"number": 80, **written}])).ports[0].protocol is expected


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"hosts": []}, "spec.hosts"),
        ({"location": "ELSEWHERE"}, "spec.location"),
        ({"resolution": "GUESS"}, "spec.resolution"),
        ({"endpoints": [{"address": "1.2.3.4"}], "workloadSelector": {"labels": {"a": "b"}}}, "spec.workloadSelector"),
    ],
)
def test_what_cannot_be_is_said(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_service_entry(entry(**spec))
    assert field in str(caught.value.details)


def test_ranges_are_no_single_addresses() -> None:
    assert parse_service_entry(entry(addresses=["192.0.2.1", "192.0.2.0/24"])).single_addresses == ("192.0.2.1",)


@pytest.mark.parametrize(
    ("spec", "mode"),
    [
        ({}, "disabled"),
        ({"serviceAccount": "vm"}, "istio"),
        ({"labels": {TLS_MODE_LABEL: "istio"}}, "istio"),
        ({"serviceAccount": "vm", "labels": {TLS_MODE_LABEL: "disabled"}}, "disabled"),  # the label comes first
    ],
)
def test_a_workload_entry_answers_mtls_by_its_label_or_its_account(spec: dict[str, Any], mode: str) -> None:
    # pilot/pkg/serviceregistry/serviceentry/conversion.go getTLSModeFromWorkloadEntry
    obj = {"metadata": {"name": "vm", "namespace": "shop"}, "spec": {"address": "1.2.3.4", **spec}}
    assert parse_workload_entry(obj).workload.tls_mode == mode


def test_a_group_is_a_template() -> None:
    spec = {"metadata": {"labels": {"app": "vm"}}, "template": {"serviceAccount": "vm", "labels": {"a": "b"}}}
    group = parse_workload_group({"metadata": {"name": "vms", "namespace": "shop"}, "spec": spec})
    assert group.labels == {"app": "vm", "a": "b"} and group.service_account == "vm"


def test_a_machine_of_a_group_gets_what_the_group_says() -> None:
    spec = {
        "metadata": {"labels": {"app": "vm"}, "annotations": {"a": "b"}},
        "template": {"serviceAccount": "vm", "ports": {"http": 8080}, "labels": {"app": "old", "tier": "back"}},
        "probe": {"httpGet": {"port": 8080}},
    }
    made = entry_from_group({"metadata": {"name": "vms", "namespace": "shop"}, "spec": spec}, "192.0.2.7")
    assert made["metadata"]["name"] == "vms-192.0.2.7"
    assert made["metadata"]["annotations"] == {"istio.io/autoRegistrationGroup": "vms", "a": "b"}
    assert "probe" not in made["spec"]
    entry = parse_workload_entry(made)
    assert (entry.address, entry.service_account, entry.port("http", 80)) == ("192.0.2.7", "vm", 8080)
    assert entry.labels == {"app": "vm", "tier": "back"}


@pytest.mark.parametrize(
    ("export_to", "namespace", "expected"),
    [((), "x", True), (("*",), "x", True), ((".",), "shop", True), ((".",), "x", False), (("x",), "shop", False)],
)
def test_export(export_to: tuple[str, ...], namespace: str, expected: bool) -> None:
    assert exported(frozenset(export_to), "shop", namespace) is expected
