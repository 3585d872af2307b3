"""The map of a snapshot: which edges are drawn, and what the policies say of them."""

from __future__ import annotations

from typing import Any

from labkit.observe.declared import declared_mode, effective_rows, mode_of
from labkit.observe.objects import Snapshot
from labkit.outcomes import Observation, Outcome, Probe
from labkit.views.map import EdgeState, MapEdge
from labkit.views.model import Call, make_map
from tests.unit.observe.builders import namespace, peer_authentication, pod, service

BACKEND = {"BACKEND_URL": "http://chatbackend-service:5000/chat"}


def chat(*policies: dict[str, Any], installed: bool = True, injected: bool = True) -> Snapshot:
    frontend = pod("chatfrontend-abc-1", injected=injected, owner="chatfrontend-abc", env=BACKEND)
    backends = [pod(f"chatbackend-abc-{n}", injected=injected) for n in range(2)]
    outside = pod("curl-outside-abc-1", "default", owner="curl-outside-abc")
    labels = {"istio.io/rev": "default"} if injected else {}
    return Snapshot(
        namespaces=(namespace("azureopenai", **labels), namespace("default")),
        pods=(frontend, *backends, outside),
        services=(service(),),
        peer_authentications=policies,
        mesh_installed=installed,
        shown=("azureopenai", "default"),
    )


def edge(snapshot: Snapshot, client: str, *seen: Observation) -> MapEdge:
    return next(e for e in make_map(snapshot, seen).edges if e.client == client)


def probed(client: str, **facts: Any) -> Observation:
    return Observation(probe=Probe(client, "azureopenai/chatbackend-service", 5000), **facts)


def test_a_call_that_a_pods_settings_name_is_an_edge() -> None:
    found = edge(chat(), "azureopenai/chatfrontend")
    assert (found.server, found.port) == ("azureopenai/chatbackend", 5000)


def test_a_client_without_known_calls_is_drawn_towards_the_services_in_use() -> None:
    assert edge(chat(), "default/curl-outside").server == "azureopenai/chatbackend"


def test_a_server_is_no_client_of_itself() -> None:
    assert {e.client for e in make_map(chat()).edges} == {"azureopenai/chatfrontend", "default/curl-outside"}


def test_permissive_shows_mtls_inside_and_plaintext_from_outside() -> None:
    assert edge(chat(), "azureopenai/chatfrontend").state is EdgeState.MTLS
    assert edge(chat(), "default/curl-outside").state is EdgeState.PLAINTEXT


def test_strict_shows_the_outsider_refused_and_the_insider_as_before() -> None:
    strict = chat(peer_authentication("STRICT"))
    assert edge(strict, "azureopenai/chatfrontend").state is EdgeState.MTLS
    assert edge(strict, "default/curl-outside").state is EdgeState.REFUSED


def test_without_sidecars_everything_is_plaintext_even_under_strict() -> None:
    bare = chat(peer_authentication("STRICT"), injected=False)
    assert {e.state for e in make_map(bare).edges} == {EdgeState.PLAINTEXT}


def test_what_was_seen_stands_on_the_edge() -> None:
    strict = chat(peer_authentication("STRICT"))
    refused = probed("default/curl-outside", outcome=Outcome.REFUSED, exit_code=56)
    found = edge(strict, "default/curl-outside", refused)
    assert (found.seen, found.disagrees) == ("reset, curl exit 56", False)


def test_what_contradicts_the_policies_is_marked() -> None:
    strict = chat(peer_authentication("STRICT"))
    answered = probed("default/curl-outside", outcome=Outcome.PLAINTEXT, http_status=200)
    assert edge(strict, "default/curl-outside", answered).disagrees


def test_the_newest_observation_counts() -> None:
    first = probed("default/curl-outside", http_status=503)
    second = probed("default/curl-outside", outcome=Outcome.PLAINTEXT, http_status=200)
    assert edge(chat(), "default/curl-outside", first, second).seen == "HTTP 200"


def test_an_edge_that_is_asked_for_is_drawn() -> None:
    calls = [Call("azureopenai/chatfrontend", "azureopenai/chatbackend-service", 5000)]
    assert make_map(chat(), calls=calls).count(EdgeState.MTLS) == 1


def test_a_call_of_a_port_that_no_service_has_is_left_out() -> None:
    calls = [Call("default/curl-outside", "azureopenai/chatbackend-service", 81)]
    assert all(e.port == 5000 for e in make_map(chat(), calls=calls).edges)


def test_boxes_show_the_mode_and_who_decided() -> None:
    boxes = {box.name: box for box in make_map(chat(peer_authentication("STRICT"))).namespaces}
    assert boxes["azureopenai"].mode == "STRICT"
    assert "azureopenai/default" in boxes["azureopenai"].decided_by
    assert boxes["default"].mode == "PERMISSIVE"


def test_before_the_mesh_there_is_no_mode() -> None:
    assert {box.mode for box in make_map(chat(installed=False, injected=False)).namespaces} == {"no mesh"}


def test_half_injected_workloads_are_shown_as_such() -> None:
    snapshot = chat()
    mixed = Snapshot(
        namespaces=snapshot.namespaces,
        pods=(pod("chatbackend-abc-1", injected=True), pod("chatbackend-abc-2")),
        services=snapshot.services,
        mesh_installed=True,
        shown=snapshot.shown,
    )
    assert [node.injected for node in make_map(mixed).nodes] == [None]


def test_the_mode_of_a_namespace_is_what_holds_there() -> None:
    assert mode_of(chat(peer_authentication("STRICT")), "azureopenai") == "STRICT"
    assert mode_of(chat(peer_authentication("STRICT")), "default") == "PERMISSIVE"
    assert mode_of(chat(peer_authentication("STRICT", "istio-system")), "default") == "STRICT"


def test_effective_rows_name_who_decides_and_who_cannot_enforce() -> None:
    rows = {row[0]: row for row in effective_rows(chat(peer_authentication("STRICT")), "azureopenai")}
    assert rows["chatbackend"][1:3] == ("yes", "STRICT")
    assert "azureopenai/default" in rows["chatbackend"][4]
    outside = effective_rows(chat(), "default")[0]
    assert outside[1:3] == ("no", "-")


def test_the_mode_of_a_port_follows_its_policy() -> None:
    policy = peer_authentication("STRICT")
    policy["spec"] |= {
        "selector": {"matchLabels": {"app": "chatbackend"}},
        "portLevelMtls": {"5000": {"mode": "DISABLE"}},
    }
    snapshot, backend = chat(policy), pod(injected=True)
    assert declared_mode(snapshot, backend, 5000) == "DISABLE"
    assert declared_mode(snapshot, backend, None) == "STRICT"
