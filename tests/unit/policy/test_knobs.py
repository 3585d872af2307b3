"""One field of the object that counts: what each knob writes."""

from __future__ import annotations

from typing import Any

from labkit.policy import knobs
from labkit.policy.knobs import Place, client_tls_of, client_tls_rule, mode_policy, setting_at

LABELS = {"app": "server", "pod-template-hash": "abc", "security.istio.io/tlsMode": "istio"}
SERVER = Place("foo", "server", LABELS)


def policy(name: str, mode: str = "STRICT", namespace: str = "foo", created: str = "2026-01-01", **spec: Any) -> Any:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": f"{created}T00:00:00Z"}
    return {"metadata": metadata, "spec": {"mtls": {"mode": mode}, **spec}}


def test_the_policy_that_counts_is_the_one_that_is_changed() -> None:
    older, younger = policy("older", created="2025-01-01"), policy("younger", "DISABLE")
    written = mode_policy([younger, older], Place("foo"), "PERMISSIVE")
    assert written["metadata"] == {"name": "older", "namespace": "foo"}
    assert setting_at([older, younger], Place("foo")).own == "STRICT"


def test_without_a_policy_a_new_one_is_written() -> None:
    assert mode_policy([], Place("foo"), "STRICT") == {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "foo"},
        "spec": {"mtls": {"mode": "STRICT"}},
    }
    assert mode_policy([], Place(), "STRICT", "mesh")["metadata"] == {"name": "default", "namespace": "mesh"}


def test_a_workload_is_selected_by_its_app_label_alone() -> None:
    written = mode_policy([policy("default")], SERVER, "DISABLE")
    assert written["metadata"]["name"] == "server"
    assert written["spec"]["selector"] == {"matchLabels": {"app": "server"}}


def test_a_port_is_added_to_what_the_policy_says_already() -> None:
    there = policy("server", "PERMISSIVE", selector={"matchLabels": {"app": "server"}})
    port = Place("foo", "server", LABELS, 8080)
    written = mode_policy([there], port, "DISABLE")
    assert written["spec"]["mtls"] == {"mode": "PERMISSIVE"}
    assert written["spec"]["portLevelMtls"] == {"8080": {"mode": "DISABLE"}}
    assert setting_at([written], port).own == "DISABLE"
    assert "portLevelMtls" not in mode_policy([written], port, "UNSET")["spec"]
    assert there["spec"].get("portLevelMtls") is None  # what was handed in stays as it was


def test_what_holds_and_who_decided_is_told_beside_what_stands_there() -> None:
    setting = setting_at([policy("default", "STRICT", "istio-system")], Place("foo"))
    assert (setting.own, setting.effective) == ("UNSET", "STRICT")
    assert "istio-system/default" in setting.decided_by


def test_a_name_of_ones_own_makes_a_policy_of_its_own() -> None:
    assert mode_policy([policy("default")], Place("foo"), "STRICT", name="mine")["metadata"]["name"] == "mine"


def test_a_clients_tls_is_set_and_left_to_the_mesh_again() -> None:
    rule = client_tls_rule([], "foo/server", "DISABLE")
    assert rule["spec"] == {
        "host": "server.foo.svc.cluster.local",
        "trafficPolicy": {"tls": {"mode": "DISABLE"}},
    }
    assert client_tls_of([rule], "foo/server") == "DISABLE"
    assert client_tls_of([rule], "bar/server") == ""
    assert client_tls_rule([rule], "foo/server", "")["spec"] == {"host": "server.foo.svc.cluster.local"}


def test_a_subset_is_set_alone_and_the_rest_is_kept() -> None:
    rule = {
        "metadata": {"name": "mine", "namespace": "foo"},
        "spec": {
            "host": "server",
            "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2"}],
            "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}},
        },
    }
    written = client_tls_rule([rule], "foo/server", "ISTIO_MUTUAL", "v1")
    assert written["metadata"]["name"] == "mine"
    assert written["spec"]["trafficPolicy"] == {"loadBalancer": {"simple": "RANDOM"}}
    assert client_tls_of([written], "foo/server", "v1") == "ISTIO_MUTUAL"
    assert client_tls_of([written], "foo/server", "v2") == client_tls_of([written], "foo/server") == ""
    assert knobs.subsets_of([written], "foo/server") == ["v1", "v2"]
