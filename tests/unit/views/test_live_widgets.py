"""The live map and the controls, wired to functions that are handed in. No cluster, no browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from labkit.errors import InputError, LabError
from labkit.live.settings import Settings, TrafficSetting, WorkloadSetting
from labkit.policy.knobs import Place, Setting
from labkit.views.edge_panel import EdgeFacts, Party
from labkit.views.map import EdgeState, MapEdge, MapModel, MapNode, NamespaceBox, Score, score
from labkit.views.results import Done
from labkit.widgets.controls import Controls
from labkit.widgets.live_map import LiveMap

EDGE = MapEdge("foo/client", "foo/server", 80, EdgeState.MTLS, "Both have a sidecar.")
MODEL = MapModel(
    (NamespaceBox("foo", "STRICT"),), (MapNode("foo", "client", True), MapNode("foo", "server", True)), (EDGE,)
)


class View:
    """A view that is told what to show."""

    def __init__(self, show: Callable[[Mapping[str, Any]], None]) -> None:
        self.show, self.model, self.log = show, MODEL, list[Any]()

    @property
    def shown(self) -> MapModel:
        return self.model

    def start(self) -> None:
        self.log.append("start")

    def stop(self) -> None:
        self.log.append("stop")

    def choose(self, **choices: Any) -> None:
        self.log.append(choices)

    def score(self, marks: dict[str, str]) -> Score:
        return score(self.model, marks)

    def edge(self, edge_id: str) -> MapEdge | None:
        return self.model.edge(edge_id)


def live_map(probe: Callable[[], None] = lambda: None) -> LiveMap:
    facts = EdgeFacts(Party("foo/client", without="nothing"), Party("foo/server", without="nothing"))
    return LiveMap(
        View,
        facts=lambda edge: facts,
        later=lambda act: act(),
        probe=probe,
        first=lambda: {"svg": "<svg/>", "line": "first", "styles": {"edges": {}}},
    )


def bundle_of(widget: Any) -> dict[str, Any]:
    bundle = widget._repr_mimebundle_()
    return bundle[0] if isinstance(bundle, tuple) else bundle


def test_the_picture_is_there_before_anything_moves() -> None:
    shown = live_map()
    assert (shown.svg, shown.line, shown.running) == ("<svg/>", "first", False)


def test_its_output_holds_the_widget_the_picture_and_the_words() -> None:
    shown = live_map()
    data = bundle_of(shown)
    assert data["image/svg+xml"].startswith("<svg") and "foo/client reaches foo/server" in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data
    assert shown.running  # displayed, so it follows
    shown.close()


def test_it_follows_while_a_page_shows_it() -> None:
    shown = live_map()
    for page in ("a", "b"):
        shown._heard(None, {"kind": "view", "id": page, "open": True}, None)
    shown._heard(None, {"kind": "view", "id": "a", "open": False}, None)
    assert shown.running
    shown._heard(None, {"kind": "view", "id": "b", "open": False}, None)
    assert not shown.running and shown.view.log[-1] == "stop"


def test_frames_become_traits() -> None:
    shown = live_map()
    shown.view.show({"line": "second", "lost": True})
    assert (shown.line, shown.lost, shown.svg) == ("second", True, "<svg/>")


def test_choices_reach_the_view_from_the_page_and_from_a_cell() -> None:
    shown = live_map()
    shown.layer = "declared"
    shown.replay(60)
    shown.replay(0)
    assert shown.view.log[0] == {"layer": "declared"}
    assert shown.view.log[1]["moment"] > 0 and shown.view.log[2] == {"moment": None}


def test_an_edge_is_selected_and_its_proxies_are_asked() -> None:
    shown = live_map()
    shown.select("foo/client", "foo/server")
    assert shown.selected == EDGE.id and "nothing" in shown.panel
    with pytest.raises(LabError, match="has no edge"):
        shown.select("foo/client", "foo/nobody")


def test_a_prediction_is_scored_when_it_is_revealed() -> None:
    shown = live_map()
    shown.predict()
    assert shown.predicting and shown.view.log[-1] == {"predicting": True}
    shown._heard(None, {"kind": "reveal", "marks": {EDGE.id: "refused"}}, None)
    assert (shown.score, shown.predicting) == ("0 of 1 right", False)


def test_all_edges_are_tried_on_request() -> None:
    tried: list[int] = []
    shown = live_map(lambda: tried.append(1))
    shown._heard(None, {"kind": "probe"}, None)
    assert tried == [1]


# -- controls ------------------------------------------------------------------------------------------------------


class Verbs:
    """Writes down what is turned, refuses what it is told to, and is true to it."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.refuses = ""
        self.mode, self.rps = "UNSET", 0.0
        self.disabled_meanwhile: bool | None = None
        self.panel: Controls | None = None

    def set_mtls_mode(self, mode: str, namespace: str | None = None, **more: Any) -> Done:
        if self.panel:
            self.disabled_meanwhile = self.panel.reset.disabled
        if mode == self.refuses:
            raise InputError("The webhook said no.", meaning="Its words.", next_step="Mend it.")
        self.log.append(("mode", mode, namespace, more))
        if namespace == "foo" and not more:
            self.mode = mode
        return Done("changed", kubectl=("kubectl apply -f -",), manifest="kind: PeerAuthentication")

    def set_injection(self, on: bool, namespace: str, **more: Any) -> Done:
        self.log.append(("inject", on, namespace, more))
        return Done("labelled")

    def set_client_tls(self, mode: str, service: str, **more: Any) -> Done:
        self.log.append(("client", mode, service, more))
        return Done("ruled")

    def start_traffic(self, client: str, url: str, **more: Any) -> Done:
        self.log.append(("start", client, url, more))
        self.rps = more["rps"]
        return Done("sending")

    def stop_traffic(self, client: str | None = None, url: str | None = None) -> Done:
        self.log.append(("stop", client, url))
        self.rps = 0.0
        return Done("stopped")

    def reset_knobs(self) -> Done:
        self.log.append("reset")
        return Done("back")

    def settings(self) -> Settings:
        own = Setting(self.mode, "PERMISSIVE" if self.mode == "UNSET" else self.mode, "somebody")
        unset = Setting("UNSET", own.effective, "somebody")
        return Settings(
            mesh=Setting("UNSET", "PERMISSIVE", "the default"),
            namespaces=(("foo", own, True),),
            workloads=(WorkloadSetting(Place("foo", "server", {}), unset, ((8080, unset),), True),),
            clients=(("foo/server", "", ""),),
            traffic=(TrafficSetting("foo/client", "http://server.foo:80", "/", self.rps),),
        )


def controls() -> tuple[Controls, Verbs, list[Callable[[], None]]]:
    verbs, listeners = Verbs(), list[Callable[[], None]]()

    def subscribe(listener: Callable[[], None]) -> Callable[[], None]:
        listeners.append(listener)
        return lambda: listeners.remove(listener)

    panel = Controls(verbs, read=verbs.settings, subscribe=subscribe)
    verbs.panel = panel
    return panel, verbs, listeners


MODE = ("mode", "foo", "", None)


def test_a_turn_calls_the_verb_locks_the_knobs_and_shows_what_was_applied() -> None:
    panel, verbs, _ = controls()
    panel._knobs[MODE][0].value = "STRICT"
    assert verbs.log == [("mode", "STRICT", "foo", {})]
    assert verbs.disabled_meanwhile is True and panel.reset.disabled is False
    assert "kind: PeerAuthentication" in panel.result.value and "kubectl apply" in panel.result.value


def test_a_refusal_is_said_and_the_knob_shows_what_is_true() -> None:
    panel, verbs, _ = controls()
    verbs.refuses = "STRICT"
    panel._knobs[MODE][0].value = "STRICT"
    assert "Not changed. The webhook said no." in panel.result.value and "Mend it." in panel.result.value
    assert panel._knobs[MODE][0].value == "UNSET" and verbs.log == []


def test_what_others_change_moves_the_knob_and_calls_nothing() -> None:
    panel, verbs, listeners = controls()
    panel.start()
    verbs.mode = "STRICT"
    for listener in listeners:
        listener()
    assert panel._knobs[MODE][0].value == "STRICT" and verbs.log == []
    assert "foo: STRICT, so STRICT" in panel.text
    panel.stop()
    assert listeners == []


def test_one_port_of_one_workload_is_chosen_from_the_list() -> None:
    panel, verbs, _ = controls()
    which, buttons, _ = panel._narrow
    which.value = ("mode", "foo", "server", 8080)
    buttons.value = "DISABLE"
    assert verbs.log == [("mode", "DISABLE", "foo", {"workload": "server", "port": 8080})]


def test_the_mesh_has_no_namespace() -> None:
    panel, verbs, _ = controls()
    panel._knobs["mode", "", "", None][0].value = "STRICT"
    assert verbs.log == [("mode", "STRICT", None, {})]


def test_sidecars_and_clients_are_set() -> None:
    panel, verbs, _ = controls()
    panel._knobs["inject", "foo", ""].value = False
    panel._knobs["inject", "foo", "server"].value = False
    panel._knobs["client", "foo/server", ""].value = "DISABLE"
    assert verbs.log == [
        ("inject", False, "foo", {}),
        ("inject", False, "foo", {"workload": "server"}),
        ("client", "DISABLE", "foo/server", {"subset": ""}),
    ]


def test_traffic_is_started_with_its_numbers_changed_and_stopped() -> None:
    panel, verbs, _ = controls()
    on, rps, at_once, path, _ = panel._knobs["traffic", "foo/client", "http://server.foo:80"]
    rps.value, path.value = 9.0, "healthz"
    assert verbs.log == []  # nothing is sent yet
    on.value = True
    assert verbs.log[-1] == ("start", "foo/client", "http://server.foo:80/healthz", {"rps": 9.0, "concurrency": 1})
    assert on.description == "on"
    at_once.value = 3
    assert verbs.log[-1][3] == {"rps": 9.0, "concurrency": 3}
    on.value = False
    assert verbs.log[-1] == ("stop", "foo/client", "http://server.foo:80")


def test_reset_stops_traffic_and_puts_back() -> None:
    panel, verbs, _ = controls()
    panel.reset.click()
    assert verbs.log == [("stop", None, None), "reset"]


def test_the_controls_have_a_text_twin_and_a_picture() -> None:
    panel, _, _ = controls()
    data = bundle_of(panel)
    assert data["text/plain"].startswith("Controls. mesh: UNSET, so PERMISSIVE; foo: UNSET")
    assert data["image/svg+xml"].startswith("<svg")
