"""How a mesh is configured at its installation: Helm's values, IstioOperator, --set."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import InputError
from labkit.policy.mesh_values import MeshValues, forgotten, from_assignments, meant, merge, read_mesh_values

HELM = {
    "revision": "canary",
    "global": {"istioNamespace": "mesh", "proxy": {"logLevel": "debug"}},
    "meshConfig": {"enableAutoMtls": False, "defaultConfig": {"proxyMetadata": {"MOOD": "calm"}}},
    "pilot": {"env": {"DEFAULT_WORKLOAD_CERT_TTL": "1h"}},
    "sidecarInjectorWebhook": {"enableNamespacesByDefault": True},
}

OPERATOR = {
    "apiVersion": "install.istio.io/v1alpha1",
    "kind": "IstioOperator",
    "spec": {
        "revision": "canary",
        "meshConfig": {"enableAutoMtls": False},
        "components": {"pilot": {"k8s": {"env": [{"name": "DEFAULT_WORKLOAD_CERT_TTL", "value": "1h"}]}}},
        "values": {
            "global": {"istioNamespace": "mesh", "proxy": {"logLevel": "debug"}},
            "meshConfig": {"enableAutoMtls": True, "defaultConfig": {"proxyMetadata": {"MOOD": "calm"}}},
            "sidecarInjectorWebhook": {"enableNamespacesByDefault": True},
        },
    },
}


def test_nothing_said_changes_nothing() -> None:
    assert read_mesh_values({}) == MeshValues()


@pytest.mark.parametrize("written", [HELM, OPERATOR], ids=["helm", "operator"])
def test_both_ways_say_the_same(written: dict[str, Any]) -> None:
    found = read_mesh_values(written)
    assert found == MeshValues(
        mesh={"enableAutoMtls": False, "defaultConfig": {"proxyMetadata": {"MOOD": "calm"}}},
        injection={"global": {"proxy": {"logLevel": "debug"}}},
        environment={"DEFAULT_WORKLOAD_CERT_TTL": "1h"},
        namespace="mesh",
        revision="canary",
        namespaces_by_default=True,
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, False),
        ({"profile": "minimal"}, False),
        ({"profile": "default"}, True),
        ({"profile": "default", "components": {"ingressGateways": [{"name": "a", "enabled": False}]}}, False),
        ({"components": {"ingressGateways": [{"name": "a", "enabled": True}]}}, True),
    ],
    ids=str,
)
def test_who_asks_for_a_gateway(spec: dict[str, Any], expected: bool) -> None:
    assert read_mesh_values({"kind": "IstioOperator", "spec": spec}).gateway is expected


def test_the_profile_demo_switches_the_access_log_on_unless_somebody_says_otherwise() -> None:
    assert read_mesh_values({"profile": "demo"}).mesh == {"accessLogFile": "/dev/stdout"}
    assert read_mesh_values({"profile": "demo", "meshConfig": {"accessLogFile": ""}}).mesh == {"accessLogFile": ""}


def test_what_has_no_effect_is_said() -> None:
    values = {
        "meshConfig": {"dnsRefreshRate": "60s", "trustDomain": "a", "defaultConfig": {"tracing": {"sampling": 1}}},
        "pilot": {"autoscaleEnabled": True, "env": {"PILOT_DEBUG_ADSZ": "true"}},
    }
    assert read_mesh_values(values).without_effect == (
        "meshConfig.defaultConfig.tracing.sampling",
        "meshConfig.dnsRefreshRate",
        "pilot.autoscaleEnabled",
        "pilot.env.PILOT_DEBUG_ADSZ",
    )
    operator = {"kind": "IstioOperator", "spec": {"tag": "1.24", "components": {"cni": {"enabled": True}}}}
    assert read_mesh_values(operator).without_effect == ("components.cni", "tag")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ([], "no table of values"),
        ({"kind": "Gateway"}, "does not say how a mesh"),
        ({"profile": "ambient"}, "no profile 'ambient'"),
        ({"meshConfig": "x"}, "meshConfig is 'x'"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_one_clear_error(written: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_mesh_values(written)


def test_tables_are_merged_lists_replaced_and_null_takes_out() -> None:
    under = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge(under, {"a": {"c": [3]}, "d": None, "e": {"f": None}}) == {"a": {"b": 1, "c": [3]}, "e": {}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("meshConfig.enableAutoMtls=false", {"meshConfig": {"enableAutoMtls": False}}),
        ("a=1", {"a": 1}),
        ("a=007", {"a": "007"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=", {"a": ""}),
        (r"a.b\.c=d", {"a": {"b.c": "d"}}),
        ("components.ingressGateways[0].enabled=true", {"components": {"ingressGateways": [{"enabled": True}]}}),
    ],
)
def test_set(text: str, expected: dict[str, Any]) -> None:
    assert from_assignments([text]) == expected


def test_later_assignments_are_added_to_earlier_ones() -> None:
    assert from_assignments(["a.b=1", "a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}


@pytest.mark.parametrize("text", ["", "a", "=b", "a..b=c", "a[x]=1"])
def test_what_sets_nothing_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        from_assignments([text])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"trustDomain": "corp"}, {"trustDomain": "cluster.local"}, ["meshConfig.trustDomain=corp"]),
        ({"trustDomain": "corp"}, {}, ["meshConfig.trustDomain=corp"]),
        ({"trustDomain": "corp"}, {"trustDomain": "corp", "accessLogFile": "x"}, []),
        ({"defaultConfig": {"a": 1, "b": 2}}, {"defaultConfig": {"b": 2}}, ["meshConfig.defaultConfig.a=1"]),
        ({"defaultConfig": {"a": 1}}, {}, ["meshConfig.defaultConfig.a=1"]),
        ({}, {"trustDomain": "corp"}, []),
    ],
)
def test_what_is_no_longer_named_is_known(before: dict[str, Any], after: dict[str, Any], said: list[str]) -> None:
    assert forgotten(before, after) == said


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("meshConfig.accesslogfile", "meshConfig.accessLogFile"),
        ("meshConfig.enableAutomTls", "meshConfig.enableAutoMtls"),
        ("meshConfig.trustDomian", "meshConfig.trustDomain"),
        ("meshConfig.dnsRefreshRate", ""),
    ],
)
def test_a_path_that_is_nearly_right_is_known(path: str, near: str) -> None:
    assert meant(path) == near
