"""Hosts of ServiceEntries on the map: who calls them, and what is declared of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from labkit.observe.objects import Snapshot
from labkit.outcomes import Observation, Outcome, Probe
from labkit.views.drawing import draw_map
from labkit.views.map import Counts, EdgeState, MapEdge, NodeKind
from labkit.views.model import Call, make_map
from tests.unit.observe.builders import namespace, pod, service

HOST = "api.partner.example"


def entry(*hosts: str, number: int = 80, protocol: str = "HTTP", where: str = "azureopenai") -> dict[str, Any]:
    spec = {"hosts": list(hosts or (HOST,)), "resolution": "DNS"}
    ports = [{"number": number, "name": protocol.lower(), "protocol": protocol}]
    return {
        "kind": "ServiceEntry",
        "metadata": {"name": "partner", "namespace": where},
        "spec": {**spec, "ports": ports},
    }


def rule(mode: str) -> dict[str, Any]:
    spec = {"host": HOST, "trafficPolicy": {"tls": {"mode": mode}}}
    return {"kind": "DestinationRule", "metadata": {"name": "partner", "namespace": "azureopenai"}, "spec": spec}


def mesh(*rules: dict[str, Any], url: str = "", entries: tuple[dict[str, Any], ...] = (entry(),)) -> Snapshot:
    frontend = pod("chatfrontend-abc-1", injected=True, owner="chatfrontend-abc", env={"PARTNER": url} if url else None)
    return Snapshot(
        namespaces=(namespace("azureopenai"),),
        pods=(frontend, pod(injected=True)),
        services=(service(),),
        destination_rules=rules,
        service_entries=entries,
        mesh_installed=True,
        shown=("azureopenai",),
    )


def edge(snapshot: Snapshot, *seen: Observation, counted: Any = None) -> MapEdge:
    return next(one for one in make_map(snapshot, seen, counted=counted).edges if one.server == HOST)


def probed(**facts: Any) -> Observation:
    # As traffic.probe names a server: by the first two words of its host.
    return Observation(probe=Probe("azureopenai/chatfrontend", "partner/api", 80), **facts)


def test_a_host_of_a_service_entry_stands_outside_of_the_namespaces() -> None:
    node = next(one for one in make_map(mesh()).nodes if one.id == HOST)
    assert (node.kind, node.namespace, node.detail) == (NodeKind.EXTERNAL, "", "external host")
    assert HOST in draw_map(make_map(mesh()), standalone=True)


def test_without_a_service_entry_there_is_none() -> None:
    assert not [one for one in make_map(mesh(entries=())).nodes if one.kind is NodeKind.EXTERNAL]


def test_a_host_that_only_other_namespaces_name_is_left_out() -> None:
    assert HOST not in {one.id for one in make_map(mesh(entries=(entry(where="elsewhere"),))).nodes}


@pytest.mark.parametrize("url", [f"http://{HOST}/v1", f"{HOST}:80", f"http://{HOST}"])
def test_who_names_a_host_in_its_settings_calls_it(url: str) -> None:
    found = edge(mesh(url=url))
    assert (found.client, found.port, found.state) == ("azureopenai/chatfrontend", 80, EdgeState.PLAINTEXT)
    assert not found.tried


@pytest.mark.parametrize("url", [f"http://not-{HOST}/", f"http://{HOST}.org", "http://partner.example"])
def test_another_host_is_not_taken_for_it(url: str) -> None:
    assert HOST not in {one.server for one in make_map(mesh(url=url)).edges}


@pytest.mark.parametrize(
    ("mode", "state"),
    [("SIMPLE", EdgeState.TLS), ("MUTUAL", EdgeState.TLS), ("DISABLE", EdgeState.PLAINTEXT)],
)
def test_a_destination_rule_says_how_it_is_called(mode: str, state: EdgeState) -> None:
    found = edge(mesh(rule(mode), url=f"http://{HOST}"))
    assert found.state is state
    assert "azureopenai/partner" in found.reason + found.decided_by


def test_an_answer_is_told_and_leaves_the_state_as_declared() -> None:
    found = edge(mesh(rule("SIMPLE")), probed(http_status=200, outcome=Outcome.PLAINTEXT))
    assert (found.shown, found.seen, found.disagrees) == (EdgeState.TLS, "HTTP 200", False)


def test_a_refusal_that_nobody_declared_is_marked() -> None:
    found = edge(mesh(), probed(exit_code=56, outcome=Outcome.REFUSED))
    assert (found.shown, found.disagrees) == (EdgeState.REFUSED, True)


def test_what_a_clients_proxy_has_counted_is_an_edge() -> None:
    counted = {("azureopenai/chatfrontend", HOST): Counts(unknown=7, window=30)}
    found = edge(mesh(), counted=counted)
    assert (found.shown, found.counts.total) == (EdgeState.PLAINTEXT, 7)


def test_a_prober_of_ours_calls_nobody_outside() -> None:
    from labkit.live.targets import targets_of

    snapshot = mesh(url=f"http://{HOST}")
    model = make_map(snapshot, calls=[Call("azureopenai/chatfrontend", "azureopenai/chatbackend-service", 5000)])
    assert {one.server for one in model.edges} == {HOST, "azureopenai/chatbackend"}
    assert {call.service for call, _ in targets_of(model, snapshot)} == {"azureopenai/chatbackend-service"}


def test_a_service_of_the_same_words_is_not_taken_for_the_host() -> None:
    snapshot = replace(mesh(), services=(service(), service("api", "partner")))
    assert HOST not in {one.server for one in make_map(snapshot, [probed(http_status=200)]).edges}
