"""Brings what changed to the sidecars that it concerns, at once and in an order that breaks nothing.

Why there is no debounce of 100 ms as in Istio (PILOT_DEBOUNCE_AFTER): Istio waits for quiet because one push there
means translating for thousands of proxies and streaming to each. Here a push takes a millisecond or two per proxy,
and a learner waits for it. Events that arrived while a push was running are taken together by the next one, so a
burst costs few pushes anyway.

The order within a push is "make before break":
1. endpoints that are new: an Envoy cluster may not name a file that is not there;
2. endpoints of which one turned to plaintext: clients must stop speaking mTLS before its server does;
3. clusters and listeners, first of the sidecars that the change is about;
4. all other endpoints: clients start to speak mTLS when the server can answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from labkit.embedded.controlplane.authority import Certificates, utc_now
from labkit.embedded.controlplane.delivery import Delivery, as_text
from labkit.embedded.controlplane.state import Dirt, State
from labkit.embedded.controlplane.translation.model import Key, Sidecar, Snapshot
from labkit.embedded.controlplane.translation.proxy import (
    make_endpoints_files,
    make_proxy_config,
    structure_of,
    tls_modes,
)
from labkit.embedded.envoy_messages import Config

log = logging.getLogger(__name__)

# Envoy sees a renamed file within 4 to 7 ms (measured on two cores); this is how long the clients of an endpoint
# that turns to or from DISABLE get before, or its server gets after.
SETTLE_SECONDS = 0.015


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
        self._structure: object = None
        self._endpoints: dict[str, Config] = {}
        self._served: set[Key] = set()

    def poke(self) -> None:
        """Something may have changed."""
        if self.state.dirt:
            self._changed.set()

    async def run(self) -> None:
        """Push whatever changes, and renew certificates in time, until cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), self._seconds_to_renewal())
            except TimeoutError:
                self.renew()
                continue
            self._changed.clear()
            await self.push(self.state.take_dirt())

    async def push(self, dirt: Dirt) -> None:
        """Tell every sidecar that `dirt` concerns."""
        began = time.perf_counter()
        snapshot = self.state.snapshot()
        concerned = self.state.affected(dirt)
        self._remove(self._served - self.state.sidecars.keys())
        structure = structure_of(snapshot)
        others = self.state.sidecars.keys() - concerned if structure != self._structure else set()
        written = await self._deliver(snapshot, concerned, sorted(others))
        self._structure = structure
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

    async def _deliver(self, snapshot: Snapshot, concerned: set[Key], others: list[Key]) -> int:
        before, self._endpoints = self._endpoints, make_endpoints_files(snapshot)
        new = [name for name in self._endpoints if name not in before]
        changed = [name for name in self._endpoints if name in before and before[name] != self._endpoints[name]]
        to_plaintext = [name for name in changed if _turns(before[name], self._endpoints[name], to_mtls=False)]
        to_mtls = [name for name in changed if _turns(before[name], self._endpoints[name], to_mtls=True)]
        clients = list(self.state.sidecars.values())
        written = self._write_endpoints(clients, [*new, *to_plaintext])
        if to_plaintext:
            await asyncio.sleep(SETTLE_SECONDS)
        for key in [*sorted(concerned), *others]:
            if sidecar := self.state.sidecars.get(key):  # it may have gone while others settled
                written += self._write_sidecar(snapshot, sidecar)
        if to_mtls:
            await asyncio.sleep(SETTLE_SECONDS)
        written += self._write_endpoints(clients, [name for name in changed if name not in to_plaintext])
        self._remove_endpoints(clients, before)
        return written

    def _write_sidecar(self, snapshot: Snapshot, sidecar: Sidecar) -> int:
        self.certificates.ensure(snapshot.mesh, sidecar, self._clock())
        directory = self.delivery.directory(sidecar.key)
        written = self._write_endpoints([sidecar], self._endpoints)
        self._served.add(sidecar.key)
        return written + self.delivery.write_all(make_proxy_config(snapshot, sidecar, directory).files(directory))

    def _write_endpoints(self, sidecars: Iterable[Sidecar], names: Iterable[str]) -> int:
        texts = {name: as_text(self._endpoints[name]) for name in names}
        return sum(
            self.delivery.write_text(self.delivery.directory(sidecar.key) / "eds" / name, texts[name])
            for sidecar in sidecars
            for name in texts
            if sidecar.key in self.state.sidecars
        )

    def _remove_endpoints(self, sidecars: Iterable[Sidecar], before: dict[str, Config]) -> None:
        if before.keys() - self._endpoints.keys():
            for sidecar in sidecars:
                self.delivery.keep_only(self.delivery.directory(sidecar.key) / "eds", self._endpoints)

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

    def _seconds_to_renewal(self) -> float | None:
        moment = self.certificates.next_renewal()
        return None if moment is None else max((moment - self._clock()).total_seconds(), 0.05)


def _turns(before: Config, after: Config, *, to_mtls: bool) -> bool:
    """Whether an endpoint that stays is to be reached by mTLS from now on, or by plaintext from now on."""
    old, new = tls_modes(before), tls_modes(after)
    return any(new[address] is to_mtls and old[address] is not to_mtls for address in new.keys() & old.keys())
