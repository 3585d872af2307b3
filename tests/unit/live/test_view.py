"""A picture that is kept up to date: frames, the past, what fades, what a prober tries."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from labkit.live.ledger import Ledger
from labkit.live.settings import read_settings
from labkit.live.targets import health_path, targets_of
from labkit.live.view import Frame, LiveView
from labkit.observe.objects import Snapshot
from labkit.outcomes import Observation, Outcome, Probe
from labkit.views.map import Counts, EdgeState
from labkit.views.model import make_map
from tests.unit.observe.builders import peer_authentication, pod
from tests.unit.views.test_model import chat

OUTSIDE = "default/curl-outside|azureopenai/chatbackend|5000|call"
INSIDE = "azureopenai/chatfrontend|azureopenai/chatbackend|5000|call"


class StillMesh:
    """A mesh whose facts are handed in."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.ledger, self.problem = Ledger(), ""
        self.servers: dict[Any, str] = {}
        self.now, self.observed, self.counts = snapshot, list[Observation](), dict[Any, Counts]()
        self.listeners: list[Callable[[], None]] = []

    def snapshot(self, namespaces: object) -> Snapshot:
        return self.now

    def seen(self) -> list[Observation]:
        return self.observed

    def counted(self) -> dict[Any, Counts]:
        return self.counts

    def subscribe(self, listener: Callable[[], None], targets: object) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)


def view_of(mesh: StillMesh) -> tuple[LiveView, list[Frame]]:
    frames: list[Frame] = []
    view = LiveView(mesh, (), frames.append, special=False)  # type: ignore[arg-type]
    view.refresh()
    return view, frames


def test_the_first_frame_has_the_picture_and_the_next_only_styles() -> None:
    mesh = StillMesh(chat())
    view, frames = view_of(mesh)
    assert frames[0]["svg"].startswith("<svg") and frames[0]["styles"]["edges"][OUTSIDE]["word"] == "plaintext"
    mesh.now = chat(peer_authentication("STRICT"))
    view.refresh()
    assert "svg" not in frames[1]
    assert frames[1]["styles"]["edges"][OUTSIDE]["word"] == "refused"
    assert "1 refused" in frames[1]["line"]


def test_nothing_new_is_no_frame() -> None:
    mesh = StillMesh(chat())
    view, frames = view_of(mesh)
    view.refresh()
    assert len(frames) == 1


def test_somebody_new_is_a_new_picture() -> None:
    mesh = StillMesh(chat())
    view, frames = view_of(mesh)
    newcomer = pod("another-abc-1", "default", owner="another-abc")
    mesh.now = replace(mesh.now, pods=(*mesh.now.pods, newcomer))
    view.refresh()
    assert 'data-node="default/another"' in frames[1]["svg"]


def test_what_is_seen_replaces_what_is_said() -> None:
    mesh = StillMesh(chat(peer_authentication("STRICT")))
    view, frames = view_of(mesh)
    sent = Probe("default/curl-outside", "azureopenai/chatbackend-service", 5000)
    mesh.observed = [Observation(Outcome.PLAINTEXT, http_status=200, probe=sent)]
    view.refresh()
    style = frames[1]["styles"]["edges"][OUTSIDE]
    assert (style["word"], style["second"]) == ("plaintext", "≠ policy: refused")
    assert "1 not as the policies say" in frames[1]["line"]


def test_the_past_is_what_was_true_then() -> None:
    mesh = StillMesh(chat())
    view, _ = view_of(mesh)
    view._past[0] = (time.time() - 60, view._past[0][1])
    mesh.now = chat(peer_authentication("STRICT"))
    view.refresh()
    view.choose(moment=time.time() - 30)
    assert view.shown.edge(OUTSIDE).state is EdgeState.PLAINTEXT  # type: ignore[union-attr]
    assert view.model.edge(OUTSIDE).state is EdgeState.REFUSED  # type: ignore[union-attr]
    view.choose(moment=None)
    assert view.shown is view.model


def test_the_past_does_not_grow_for_ever() -> None:
    mesh = StillMesh(chat())
    view, _ = view_of(mesh)
    for second in range(2000):
        view._remember(1000.0 + second, view.model)
    assert len(view._past) <= 902
    assert view._past_edges == sum(len(model.edges) for _, model in view._past)


def test_a_call_that_is_not_declared_stays_and_fades_when_it_ends() -> None:
    mesh = StillMesh(chat())
    view, frames = view_of(mesh)
    extra = ("azureopenai/chatfrontend", "azureopenai/chatbackend")
    mesh.counts = {("default/curl-outside", "azureopenai/chatbackend"): Counts(plaintext=3, window=10), extra: Counts()}
    view.refresh()
    mesh.counts = {}
    view.refresh()
    assert "svg" not in frames[-1]
    assert "lkm-stale" in frames[-1]["styles"]["edges"][OUTSIDE]["class"]


def test_predicting_hides_and_scores() -> None:
    view, frames = view_of(StillMesh(chat()))
    view.choose(predicting=True)
    assert frames[-1]["styles"]["edges"][OUTSIDE]["word"] == "not tried"
    assert str(view.score({OUTSIDE: "plaintext", INSIDE: "plaintext"})).startswith("1 of 2 right")


def test_a_lost_cluster_is_said() -> None:
    mesh = StillMesh(chat())
    view, frames = view_of(mesh)
    mesh.problem = "It does not answer."
    view.refresh()
    assert frames[-1]["lost"] and "follows again" in frames[-1]["line"]


def test_it_listens_from_start_to_stop() -> None:
    mesh = StillMesh(chat())
    view, _ = view_of(mesh)
    view.start()
    view.start()
    assert len(mesh.listeners) == 1 and view.running
    view.stop()
    assert mesh.listeners == [] and not view.running


def test_a_prober_asks_where_the_readiness_probe_asks() -> None:
    kept = '{"/app-health/app/readyz": {"httpGet": {"path": "/healthz", "port": 5000}}}'
    injected = pod(injected=True)
    for container in injected["spec"]["containers"]:
        container["env"] = [{"name": "ISTIO_KUBE_APP_PROBERS", "value": kept}]
        container["readinessProbe"] = {"httpGet": {"path": f"/app-health/{container['name']}/readyz", "port": 15020}}
    assert health_path(injected) == "/healthz"
    bare = pod()
    bare["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/ready", "port": 1}}
    assert health_path(bare) == "/ready"
    assert health_path(pod()) == "/" and health_path(None) == "/"


def test_clients_that_are_not_ready_are_not_asked_to_try() -> None:
    snapshot = chat()
    assert {call.client for call, _ in targets_of(make_map(snapshot), snapshot)} == {
        "azureopenai/chatfrontend",
        "default/curl-outside",
    }
    waiting = replace(
        snapshot, pods=tuple(p if "outside" not in p["metadata"]["name"] else _unready(p) for p in snapshot.pods)
    )
    assert {call.client for call, _ in targets_of(make_map(waiting), waiting)} == {"azureopenai/chatfrontend"}


def _unready(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "status": {**one["status"], "conditions": [{"type": "Ready", "status": "False"}]}}


def test_settings_say_what_stands_there_and_what_holds() -> None:
    settings = read_settings(chat(peer_authentication("STRICT")), ())
    modes = {name: mode for name, mode, _ in settings.namespaces}
    assert (modes["azureopenai"].own, modes["azureopenai"].effective) == ("STRICT", "STRICT")
    assert (modes["default"].own, modes["default"].effective) == ("UNSET", "PERMISSIVE")
    backend = next(one for one in settings.workloads if one.place.workload == "chatbackend")
    assert (backend.mode.own, backend.mode.effective, backend.injected) == ("UNSET", "STRICT", True)
    assert {name: injects for name, _, injects in settings.namespaces} == {"azureopenai": True, "default": False}
    assert settings.clients == (("azureopenai/chatbackend-service", "", ""),)
    assert [one.client for one in settings.traffic] == ["azureopenai/chatfrontend", "default/curl-outside"]


def test_each_row_of_the_table_ends_with_the_edge_that_it_opens() -> None:
    view, frames = view_of(StillMesh(chat()))
    rows = frames[0]["rows"]
    assert [row[-1] for row in rows] == [INSIDE, OUTSIDE]
    assert all(view.edge(row[-1]).client == row[0] for row in rows)  # type: ignore[union-attr]
