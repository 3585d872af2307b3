"""The mesh as it is now: a map that follows it, controls that show what is true, traffic that goes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from labkit.lab.knobs import Knobs
from labkit.views.results import Done

if TYPE_CHECKING:
    from labkit.live.mesh import LiveMesh
    from labkit.outcomes import Observation
    from labkit.views.tables import Table
    from labkit.widgets.live_map import LiveMap


class Live(Knobs):
    """What moves in a notebook. A widget calls the same functions as a cell."""

    _followed: LiveMesh | None
    _seen: list[Observation]

    @property
    def live(self) -> LiveMesh:
        """The mesh, followed: made when it is first needed, at work while anything shows it."""
        from labkit.live.mesh import LiveMesh

        if self._followed is None:
            self._followed = LiveMesh(self.cluster.another)
        return self._followed

    def live_map(self, *namespaces: str, special: bool = True, forwards: Iterable[str] = ()) -> LiveMap:
        """The encryption map of some namespaces, or of all, that redraws while the mesh changes.

        `special` shows the kubelet's probes and Prometheus' scrapes, `forwards` where port-forwards lead to, as
        "namespace/workload:port".
        """
        from labkit.live.view import LiveView
        from labkit.observe.objects import take_snapshot
        from labkit.widgets.live_map import LiveMap

        for name in namespaces:
            self.cluster.get("namespaces", name)
        view: list[LiveView] = []

        def follow(show: Any) -> LiveView:
            view.append(LiveView(self.live, namespaces, show, special=special, forwards=forwards))
            return view[0]

        mesh = self.live
        snapshot = take_snapshot(self.cluster, *namespaces)
        return LiveMap(
            follow,
            facts=mesh.facts,
            later=mesh.later,
            probe=mesh.probe_soon,
            first=lambda: view[0].take(snapshot),
            special=special,
        )

    def controls(self, *namespaces: str) -> Any:
        """Knobs for modes, injection, clients' TLS and traffic, which show what is true in the cluster."""
        from labkit.live.settings import read_settings
        from labkit.observe.objects import take_snapshot
        from labkit.widgets.controls import Controls

        for name in namespaces:
            self.cluster.get("namespaces", name)
        mesh = self.live

        def read() -> Any:
            snapshot = mesh.snapshot(namespaces) or take_snapshot(self.cluster, *namespaces)
            return read_settings(snapshot, mesh.senders.values(), mesh.problem)

        return Controls(self, read=read, subscribe=lambda listener: mesh.subscribe(listener, lambda: ()))

    def console(self, *namespaces: str) -> Any:
        """Controls, map and timeline on one screen."""
        from labkit.widgets.console import Console

        return Console(self.controls(*namespaces), self.live_map(*namespaces))

    # -- traffic ---------------------------------------------------------------------------------------------------

    def start_traffic(self, client: str, url: str, *, rps: float = 2.0, concurrency: int = 1, data: str = "") -> Done:
        """Let a client's own curl send requests, steadily, until it is stopped; called again, it changes the rate."""
        from labkit.live.sender import Orders
        from labkit.observe.objects import find_workload

        reference = find_workload(self.cluster, client)
        reference.ready_pod()
        orders = Orders(str(reference), url, rps, concurrency, data)
        self.live.start_traffic(orders)
        each = f", {concurrency} at a time" if concurrency > 1 else ""
        line = (
            f"kubectl exec -n {reference.namespace} {reference.kubectl_name} -- {' '.join(orders.command()[:1])} {url}"
        )
        return Done(f"{reference} sends {rps:g} requests per second to {url}{each}", kubectl=(line,))

    def stop_traffic(self, client: str | None = None, url: str | None = None) -> Done:
        """Stop one client's traffic (to what begins with `url`), or all."""
        from labkit.observe.objects import find_workload

        name = str(find_workload(self.cluster, client)) if client else None
        number = self._followed.stop_traffic(name, url) if self._followed else 0
        return Done(f"Stopped {number} {'sender' if number == 1 else 'senders'}" if number else "Nobody was sending")

    def traffic(self) -> Table:
        """Who sends what, how often, and how much so far; failed are those without an answer, or with an error."""
        from labkit.views.tables import make_table

        senders = self._followed.senders.values() if self._followed else ()
        rows = [
            (
                one.orders.client,
                one.orders.url,
                f"{one.orders.rps:g}",
                one.orders.concurrency,
                one.sent,
                one.failed,
                one.problem or "-",
            )
            for one in senders
        ]
        return make_table(("CLIENT", "URL", "PER SECOND", "AT ONCE", "SENT", "FAILED", "PROBLEM"), rows)

    def _close_live(self) -> None:
        if self._followed is not None:
            self._followed.close()
            self._followed = None
