"""The node proxy: one Envoy that makes ClusterIPs work, as kube-proxy does on a real node.

It follows Services and EndpointSlices over the API, writes what `proxy_config.translate` makes of them as files, and
keeps an Envoy running that reads them. The Envoy outlives this process: who starts next adopts it, so that
connections through Services survive a restart of the cluster's supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from labkit.embedded import envoy
from labkit.embedded.apiclient import ENDPOINTSLICES, SERVICES, ApiClient, Informer, Object
from labkit.embedded.node.proxy_config import ProxyConfig, translate
from labkit.embedded.node.proxy_process import EnvoyProcess
from labkit.embedded.paths import ClusterPaths, private_dir

log = logging.getLogger(__name__)

# kube-proxy leaves established connections alone when a Service loses its endpoints. A removed listener's
# connections live for the drain time, so it is long here, unlike at the sidecars.
DRAIN_SECONDS = 3600


class NodeProxy:
    """Serves every ClusterIP of the cluster in `block`. `start` returns when all known Services are served."""

    def __init__(self, *, paths: ClusterPaths, block: int, api: ApiClient, envoy_binary: Path | None = None) -> None:
        self._block = block
        self._dir = paths.node_dir / "proxy"
        self._written: dict[Path, Any] = {}
        self._dirty = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._services = Informer(api, SERVICES, self._changed)
        self._slices = Informer(api, ENDPOINTSLICES, self._changed)
        self.admin_socket = envoy.check_socket_path(paths.run_dir / "node-proxy.sock")
        bootstrap = self._dir / "bootstrap.json"
        command = envoy.envoy_command(envoy_binary or envoy.envoy_binary(), bootstrap, drain_seconds=DRAIN_SECONDS)
        self.process = EnvoyProcess(self._dir, command, self.admin_socket)

    async def start(self) -> None:
        """Write the configuration of what the API holds now, then start Envoy or adopt the one that runs."""
        private_dir(self._dir)
        self._tasks = [asyncio.create_task(informer.run()) for informer in (self._services, self._slices)]
        await self._services.synced.wait()
        await self._slices.synced.wait()
        self._write(
            envoy.bootstrap(
                node_id="node-proxy",
                node_cluster="node",
                admin_socket=self.admin_socket,
                lds=self._dir / "lds.json",
                cds=self._dir / "cds.json",
            ),
            self._dir / "bootstrap.json",
        )
        self._publish()
        await self.process.start()
        self._tasks.append(asyncio.create_task(self._follow()))

    async def stop(self, *, keep: bool = False) -> None:
        """Stop following the API, and end Envoy unless `keep` says that it runs on for the next one to adopt."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        await self.process.stop(keep=keep)

    def _changed(self, _kind: str, _obj: Object) -> None:
        self._dirty.set()

    async def _follow(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                self._publish()
            except Exception:  # one bad object must not end the proxy for all others
                log.exception("the node proxy could not write its configuration")

    def _publish(self) -> None:
        config = translate(
            self._services.objects.values(),
            self._slices.objects.values(),
            block=self._block,
        )
        for name in config.conflicts:
            log.warning("service port %s is not served: its port on the wire is taken by another port", name)
        self._write_all(config)

    def _write_all(self, config: ProxyConfig) -> None:
        # Clusters before the listeners that name them: so no connection meets a half-made Service.
        self._write_xds(self._dir / "cds.json", envoy.CLUSTER_TYPE, config.clusters)
        self._write_xds(self._dir / "lds.json", envoy.LISTENER_TYPE, config.listeners)

    def _write_xds(self, path: Path, type_url: str, resources: list[envoy.Config]) -> None:
        # The version is the content's, so that a restart of ours is not a change for Envoy.
        version = hashlib.sha256(json.dumps(resources).encode()).hexdigest()[:12]
        self._write(envoy.discovery_response(type_url, version, resources), path)

    def _write(self, data: Any, path: Path) -> None:
        if self._written.get(path) != data:
            envoy.write_if_changed(path, data)
            self._written[path] = data
