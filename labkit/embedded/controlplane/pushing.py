"""Brings what changed to the sidecars that it concerns, at once and in an order that breaks nothing.

Why there is no debounce of 100 ms as in Istio (PILOT_DEBOUNCE_AFTER): Istio waits for quiet because one push there
means translating for thousands of proxies and streaming to each. Here a push takes a millisecond or two per proxy,
and a learner waits for it. Events that arrived while a push was running are taken together by the next one, so a
burst costs few pushes anyway.

The order within a push is "make before break": clusters before the listeners that name them. Where an endpoint
turns to plaintext, its clients get a moment to follow before its own listener does. Where one turns to mTLS, it is
the other way round: first the server's listener, then the clients' clusters. Between two steps the Pusher waits for
the proxies' word that they have taken the first one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from pathlib import Path

from labkit.embedded.controlplane.authority import Certificates, MeshTrust, utc_now
from labkit.embedded.controlplane.delivery import Delivery, as_text
from labkit.embedded.controlplane.monitoring import Monitor
from labkit.embedded.controlplane.state import Dirt, State
from labkit.embedded.controlplane.translation import gateway_tls, tls
from labkit.embedded.controlplane.translation.clusters import tls_modes
from labkit.embedded.controlplane.translation.model import Key, Sidecar, Snapshot
from labkit.embedded.controlplane.translation.proxy import (
    CLUSTERS_FILE,
    LISTENERS_FILE,
    ProxyConfig,
    client_views,
    make_proxy_config,
    shared_part,
)
from labkit.embedded.envoy_messages import Config

log = logging.getLogger(__name__)

# Envoy's main thread has taken a step when it says so; its workers follow in the next moment, and requests that are
# on their way end. This is what they get when an endpoint turns to or from DISABLE; between PERMISSIVE and STRICT
# nobody waits.
SETTLE_SECONDS = 0.05
# A proxy that is busy or stopped must not hold up the others for longer.
WORD_SECONDS = 1.0

Settled = Callable[[Iterable[Path], float], Awaitable[bool]]


async def _at_once(_paths: Iterable[Path], _seconds: float) -> bool:
    return True


class Pusher:
    """Writes the configuration of all sidecars, and keeps it right."""

    def __init__(
        self,
        state: State,
        delivery: Delivery,
        certificates: Certificates,
        clock: Callable[[], datetime] = utc_now,
        settled: Settled = _at_once,
        monitor: Monitor | None = None,
    ) -> None:
        self.state = state
        self.monitor = monitor or Monitor()
        self.delivery = delivery
        self.certificates = certificates
        self.pushes = 0
        self.files_written = 0
        self.last_push_seconds = 0.0
        self._clock = clock
        self._settled = settled
        self._changed = asyncio.Event()
        self._shared: object = None
        self._views: dict[str, object] = {}
        self._own: dict[Key, tuple[Config, ...]] = {}
        self._modes: dict[tuple[str, str], bool] = {}
        self._served: set[Key] = set()
        self._busy = False
        self._pushed: dict[tuple[str, str, str], str] = {}

    @property
    def versions(self) -> dict[tuple[str, str, str], str]:
        """The objects, with their resourceVersions, that are in what was delivered last."""
        return self._pushed if self.state.dirt or self._changed.is_set() or self._busy else self.state.versions

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
            self._busy = True
            try:
                await self.push(self.state.take_dirt())
            except Exception:  # one object that cannot be translated must not end the control plane
                log.exception("a push failed; sidecars keep what they have")
                self._shared = None  # the next one is for everybody
            finally:
                self._busy = False

    async def push(self, dirt: Dirt) -> None:
        """Tell every sidecar that `dirt` concerns."""
        began = time.perf_counter()
        versions = dict(self.state.versions)
        self.delivery.because = tuple(sorted(dirt.because, key=repr))
        snapshot = self.state.snapshot()
        concerned = self.state.affected(dirt)
        self._remove(self._served - self.state.sidecars.keys())
        seen = self._namespaces_seen_anew(snapshot, dirt)
        everybody = self._look(snapshot, dirt, seen)
        others = self.state.sidecars.keys() - concerned if everybody else set()
        if everybody or dirt.clients or dirt.shared:
            self._own.clear()
        for key in dirt.sidecars:
            self._own.pop(key, None)
        written = await self._deliver(snapshot, [*sorted(concerned), *sorted(others)], seen)
        self.pushes += 1
        for what, changed in (("proxy", dirt.sidecars), ("config", dirt.because), ("service", dirt.shared)):
            if changed:
                self.monitor.add("pilot_push_triggers", type=what)
        self._pushed = versions
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

    def _namespaces_seen_anew(self, snapshot: Snapshot, dirt: Dirt) -> set[str]:
        """The namespaces whose services may look different to their clients."""
        if dirt.shared or snapshot.mesh.root_namespace in dirt.namespaces or not self._views:
            return {namespace for namespace, _ in snapshot.services} | self._views.keys()
        return dirt.namespaces & {namespace for namespace, _ in snapshot.services}

    def _look(self, snapshot: Snapshot, dirt: Dirt, seen: set[str]) -> bool:
        """Whether something changed that every sidecar depends on."""
        shared = shared_part(snapshot) if dirt.shared or self._shared is None else self._shared
        views = {**self._views, **client_views(snapshot, seen)}
        changed = (shared, views) != (self._shared, self._views)
        self._shared, self._views = shared, views
        return changed

    async def _deliver(self, snapshot: Snapshot, keys: list[Key], seen: set[str]) -> int:
        now = tls_modes(snapshot, seen)
        turned = {now[one] for one in now.keys() & self._modes.keys() if now[one] != self._modes[one]}
        self._modes = now if seen >= self._views.keys() else {**self._modes, **now}
        if turned:
            return await self._deliver_in_steps(snapshot, keys, servers_first=turned == {True})
        written = 0
        later: dict[Key, ProxyConfig] = {}
        for key in keys:
            await asyncio.sleep(0)  # the first sidecar's answer need not wait for the last one's translation
            if not self._lives(key):
                continue
            config = self._make(snapshot, key)
            if self._write_clusters(key, config):
                written += 1
                later[key] = config
            else:
                written += self._write_listeners(key, config)
        # Listeners name clusters: they follow when the proxy has said that it has those.
        later = {key: config for key, config in later.items() if self._has_news(key, config)}
        await self._settled([self.delivery.directory(key) / CLUSTERS_FILE for key in later], WORD_SECONDS)
        return written + sum(self._write_listeners(key, config) for key, config in later.items() if self._lives(key))

    async def _deliver_in_steps(self, snapshot: Snapshot, keys: list[Key], *, servers_first: bool) -> int:
        configs = {key: self._make(snapshot, key) for key in keys}
        steps = [(self._write_clusters, CLUSTERS_FILE), (self._write_listeners, LISTENERS_FILE)]
        (first, document), (second, _) = reversed(steps) if servers_first else steps
        written = [key for key, config in configs.items() if first(key, config)]
        await self._settled([self.delivery.directory(key) / document for key in written], WORD_SECONDS)
        await asyncio.sleep(SETTLE_SECONDS)
        return len(written) + sum(second(key, config) for key, config in configs.items() if self._lives(key))

    def _make(self, snapshot: Snapshot, key: Key) -> ProxyConfig:
        sidecar = self.state.sidecars[key]
        self.certificates.ensure(snapshot.mesh, sidecar, self._clock())
        self._served.add(key)
        self._write_credentials(snapshot, sidecar)
        before = self._own.pop(key, None)
        config = make_proxy_config(snapshot, sidecar, self.delivery.directory(key), own_before=before)
        self._own[key] = config.own_clusters
        return config

    def _write_credentials(self, snapshot: Snapshot, proxy: Sidecar) -> None:
        """The certificates that a gateway's servers and DestinationRules name. What is missing is not sent, so
        handshakes are cut.
        """
        directory = self.delivery.directory(proxy.key)
        documents = gateway_tls.file_secrets(snapshot, proxy)
        presented = gateway_tls.certificates_of(snapshot, proxy)
        for name in gateway_tls.credentials_of(snapshot, proxy):
            credential = self.state.credential(proxy.workload.namespace, name)
            if not credential.complete and name in presented:
                log.warning("secret %s/%s has no certificate and key for a gateway", proxy.workload.namespace, name)
            documents |= gateway_tls.secret_files(name, credential)
        for sds_name, content in documents.items():
            self.delivery.write(tls.secret_file(directory, sds_name), content)

    def _lives(self, key: Key) -> bool:
        # A pod may have gone while a push waited; its documents are removed by the next one.
        return key in self.state.sidecars

    def _has_news(self, key: Key, config: ProxyConfig) -> bool:
        document = self.delivery.document(self.delivery.directory(key) / LISTENERS_FILE)
        return document is None or document.text != as_text(config.listeners_file())

    def _write_clusters(self, key: Key, config: ProxyConfig) -> int:
        if config.clusters is None:
            return 0
        return self.delivery.write(self.delivery.directory(key) / CLUSTERS_FILE, config.clusters_file())

    def _write_listeners(self, key: Key, config: ProxyConfig) -> int:
        return self.delivery.write(self.delivery.directory(key) / LISTENERS_FILE, config.listeners_file())

    def _remove(self, gone: Iterable[Key]) -> None:
        for key in list(gone):
            self.delivery.remove(key)
            self.certificates.forget(key)
            self._served.discard(key)
            self._own.pop(key, None)

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
