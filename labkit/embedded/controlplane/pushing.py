"""Brings what changed to the sidecars that it concerns, at once and in an order that breaks nothing.

Why there is no debounce of 100 ms as in Istio (PILOT_DEBOUNCE_AFTER): Istio waits for quiet because one push there
means translating for thousands of proxies and streaming to each. Here a push takes a millisecond or two per proxy,
and a learner waits for it. Events that arrived while a push was running are taken together by the next one, so a
burst costs few pushes anyway.

The order within a push is "make before break": clusters before the listeners that name them. Where an endpoint
turns to plaintext, its clients get a moment to follow before its own listener does. Where one turns to mTLS, it is
the other way round: first the server's listener, then the clients' clusters.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from labkit.embedded.controlplane.authority import Certificates, MeshTrust, utc_now
from labkit.embedded.controlplane.delivery import Delivery
from labkit.embedded.controlplane.state import Dirt, State
from labkit.embedded.controlplane.translation.clusters import tls_modes
from labkit.embedded.controlplane.translation.model import Key, Snapshot
from labkit.embedded.controlplane.translation.proxy import (
    CLUSTERS_FILE,
    LISTENERS_FILE,
    ProxyConfig,
    make_proxy_config,
    shared_part,
)

log = logging.getLogger(__name__)

# Envoy acts on a renamed file within 4 to 20 ms (two cores, busy). This is the moment that clients get, or servers,
# when an endpoint turns to or from DISABLE; between PERMISSIVE and STRICT nobody waits.
SETTLE_SECONDS = 0.05


class Pusher:
    """Writes the configuration of all sidecars, and keeps it right."""

    def __init__(
        self, state: State, delivery: Delivery, certificates: Certificates, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.state = state
        self.delivery = delivery
        self.certificates = certificates
        self.pushes = 0
        self.files_written = 0
        self.last_push_seconds = 0.0
        self._clock = clock
        self._changed = asyncio.Event()
        self._shared: object = None
        self._modes: dict[tuple[str, str], bool] = {}
        self._served: set[Key] = set()

    def poke(self) -> None:
        """Something may have changed."""
        if self.state.dirt:
            self._changed.set()

    async def run(self) -> None:
        """Push whatever changes, and renew certificates in time, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._seconds_to_renewal()):
                    await self._changed.wait()
            except TimeoutError:
                self.renew()
                continue
            self._changed.clear()
            try:
                await self.push(self.state.take_dirt())
            except Exception:  # one object that cannot be translated must not end the control plane
                log.exception("a push failed; sidecars keep what they have")

    async def push(self, dirt: Dirt) -> None:
        """Tell every sidecar that `dirt` concerns."""
        began = time.perf_counter()
        snapshot = self.state.snapshot()
        concerned = self.state.affected(dirt)
        self._remove(self._served - self.state.sidecars.keys())
        shared = shared_part(snapshot)
        others = self.state.sidecars.keys() - concerned if shared != self._shared else set()
        self._shared = shared
        written = await self._deliver(snapshot, [*sorted(concerned), *sorted(others)])
        self.pushes += 1
        self.files_written += written
        self.last_push_seconds = time.perf_counter() - began
        log.info(
            "push %d: %d files for %d of %d sidecars in %.1f ms",
            self.pushes,
            written,
            len(concerned) + len(others),
            len(self.state.sidecars),
            self.last_push_seconds * 1000,
        )

    async def _deliver(self, snapshot: Snapshot, keys: list[Key]) -> int:
        before, self._modes = self._modes, tls_modes(snapshot)
        turned = {self._modes[one] for one in self._modes.keys() & before.keys() if self._modes[one] != before[one]}
        steps = [self._write_clusters, self._write_listeners]
        if turned == {True}:  # to mTLS
            steps.reverse()
        configs = {}
        written = 0
        for key in keys:
            sidecar = self.state.sidecars[key]
            self.certificates.ensure(snapshot.mesh, sidecar, self._clock())
            configs[key] = make_proxy_config(snapshot, sidecar, self.delivery.directory(key))
            self._served.add(key)
            if not turned:  # the first sidecar need not wait for the last one's translation
                written += sum(step(key, configs[key]) for step in steps)
        if turned:
            written += sum(steps[0](key, config) for key, config in configs.items())
            await asyncio.sleep(SETTLE_SECONDS)
            # A pod may have gone meanwhile; its files are removed by the next push.
            written += sum(steps[1](key, config) for key, config in configs.items() if key in self.state.sidecars)
        return written

    def _write_clusters(self, key: Key, config: ProxyConfig) -> int:
        return self.delivery.write(self.delivery.directory(key) / CLUSTERS_FILE, config.clusters_file())

    def _write_listeners(self, key: Key, config: ProxyConfig) -> int:
        return self.delivery.write(self.delivery.directory(key) / LISTENERS_FILE, config.listeners_file())

    def _remove(self, gone: Iterable[Key]) -> None:
        for key in list(gone):
            self.delivery.remove(key)
            self.certificates.forget(key)
            self._served.discard(key)

    def remove_leftovers(self) -> None:
        """Remove what an istiod before this one left for pods that are gone."""
        self._remove(self.delivery.known_sidecars() - self.state.sidecars.keys())

    def renew(self) -> None:
        """Give a new certificate to every sidecar whose time has come."""
        for sidecar in self.state.sidecars.values():
            self.certificates.ensure(self.state.mesh, sidecar, self._clock())

    async def change_trust(self, trust: MeshTrust) -> None:
        """Another authority: every proxy trusts its roots before the first one shows a certificate of it."""
        self.certificates.trust(trust.roots, self._clock())
        self.renew()
        await asyncio.sleep(SETTLE_SECONDS)
        self.certificates.issue_under(trust.issuer)
        self.renew()

    def _seconds_to_renewal(self) -> float | None:
        moment = self.certificates.next_renewal()
        return None if moment is None else max((moment - self._clock()).total_seconds(), 0.05)
