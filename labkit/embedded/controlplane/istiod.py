"""istiod: ties the control plane's parts to the Kubernetes API, which is all it talks to.

    API -> informers -> State -> Pusher -> Delivery -> XdsServer -> Envoy
                                   ^
                        Certificates, from the authority in a Secret

It is ready when it has seen the cluster, told every sidecar, and the API server can verify its webhooks.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial
from typing import Any

import yaml
from aiohttp import web

from labkit.embedded.apiclient import (
    CONFIGMAPS,
    ENDPOINTSLICES,
    PODS,
    SECRETS,
    SERVICES,
    ApiClient,
    Handler,
    Informer,
    Resource,
)
from labkit.embedded.controlplane import webhooks
from labkit.embedded.controlplane.authority import Certificates, MeshTrust, load_trust
from labkit.embedded.controlplane.conditions import Conditions
from labkit.embedded.controlplane.delivery import Delivery
from labkit.embedded.controlplane.injection import InjectionSettings, injection_settings
from labkit.embedded.controlplane.issuer_keys import IssuerKeys
from labkit.embedded.controlplane.kinds import KINDS, STATUS_RESOURCES
from labkit.embedded.controlplane.monitoring import Monitor
from labkit.embedded.controlplane.pushing import Pusher
from labkit.embedded.controlplane.rejections import Rejections
from labkit.embedded.controlplane.settings import MONITORING_PORT, READY_PORT, WEBHOOK_PORT, Settings
from labkit.embedded.controlplane.state import State
from labkit.embedded.controlplane.syncz import config_dump, syncz
from labkit.embedded.controlplane.translation.model import MeshConfig, mesh_config
from labkit.embedded.controlplane.upkeep import RootCertificates, TrustSecrets, WebhookCertificates
from labkit.embedded.controlplane.xds import XdsServer
from labkit.pki import ROOT_TTL, CertificateAuthority, Leaf, describe_certificate

log = logging.getLogger(__name__)

Object = dict[str, Any]


class Istiod:
    """One control plane. `run` ends when it is told to, or when a part of it breaks."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State(MeshConfig(root_namespace=settings.namespace))
        self.counters = webhooks.Counters()
        self.monitor = Monitor()
        self.ready = False
        self._injection = InjectionSettings(settings.revision)
        self._webhook_tls: Any = None
        self._pusher: Pusher | None = None
        self._keys: IssuerKeys | None = None
        self._xds: XdsServer | None = None

    async def run(self) -> None:
        """Serve until SIGTERM."""
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with ApiClient(self.settings.kubeconfig, name="istiod") as api:
            runners = [await self._listen(READY_PORT, webhooks.readiness_application(lambda: self.ready))]
            try:
                trust = await self._learn_mesh(api)
                runners += await self._serve(trust.issuer)
                await self._until(stopped, self._control(api, trust))
            finally:
                self.ready = False
                if self._xds:
                    await self._xds.stop()
                await asyncio.gather(*(runner.cleanup() for runner in runners))
        log.info("istiod ends; sidecars keep what they have")

    async def _until(self, stopped: asyncio.Event, work: Awaitable[None]) -> None:
        tasks = [asyncio.ensure_future(work), asyncio.create_task(stopped.wait())]
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for task in done:
            task.result()

    async def _learn_mesh(self, api: ApiClient) -> MeshTrust:
        """The settings that must be known before the first certificate: the trust domain above all."""
        for item in (await api.list(CONFIGMAPS, self.settings.namespace))["items"]:
            self._on_configmap("ADDED", item)
        mesh = self.state.mesh
        return await load_trust(api, self.settings.namespace, mesh.trust_domain)

    async def _serve(self, authority: CertificateAuthority) -> list[web.AppRunner]:
        admission = webhooks.Webhooks(self._injection_now, self.counters)
        self._webhook_tls = webhooks.server_context(self._webhook_leaf(authority))
        monitoring = webhooks.monitoring_application(
            self.settings.version, self._metrics, self._proxies, self._configs, self._dump
        )
        return [
            await self._listen(WEBHOOK_PORT, admission.application(), self._webhook_tls),
            await self._listen(MONITORING_PORT, monitoring),
        ]

    def _injection_now(self) -> InjectionSettings:
        """The settings of this moment; the kinds are in the state, the rest is in ConfigMaps."""
        mesh = self.state.mesh
        return replace(
            self._injection,
            trust_domain=mesh.trust_domain,
            root_namespace=mesh.root_namespace,
            proxy=mesh.proxy,
            proxy_configs=self.state.configs("ProxyConfig"),
        )

    def _webhook_leaf(self, authority: CertificateAuthority) -> Leaf:
        return authority.issue(dns_names=self.settings.service_names, ttl=ROOT_TTL / 10, client=False)

    async def _listen(self, port: int, app: web.Application, tls: Any = None) -> web.AppRunner:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self.settings.address, port, ssl_context=tls, shutdown_timeout=1.0).start()
        return runner

    async def _control(self, api: ApiClient, trust: MeshTrust) -> None:
        delivery = Delivery(self.settings.xds_root)
        certificates = Certificates(trust.issuer, delivery, self.settings.certificate_ttl, trust.roots)
        rejections = Rejections(api)
        conditions = Conditions(api, rejections, lambda obj: webhooks.judge_applied(obj).errors, self.settings.revision)
        self._xds = xds = XdsServer(delivery, rejections, rejections.taken, self.monitor)
        self._pusher = pusher = Pusher(self.state, delivery, certificates, settled=xds.settled, monitor=self.monitor)
        roots = RootCertificates(api, certificates.bundle)
        bundles = WebhookCertificates(api, certificates.bundle.encode(), self.settings.revision)

        async def on_trust(changed: MeshTrust) -> None:
            await pusher.change_trust(changed)
            await roots.change(certificates.bundle)
            await bundles.change(certificates.bundle.encode())
            webhooks.present(self._webhook_tls, self._webhook_leaf(changed.issuer))

        secrets = TrustSecrets(api, self.settings.namespace, trust, on_trust)
        self._keys = IssuerKeys(self.state, self._poke)
        sources = conditions.follow(self._sources(api, self._keys), STATUS_RESOURCES)
        informers = [*sources, *roots.informers, *bundles.informers, *secrets.informers]
        async with self._keys, asyncio.TaskGroup() as tasks:
            for informer in informers:
                tasks.create_task(informer.run())
            await asyncio.gather(*(informer.synced.wait() for informer in informers))
            await self._keys.all_tried()
            pusher.remove_leftovers()
            rejections.forget_others(self.state.sidecars)
            await pusher.push(self.state.take_dirt())
            # Not earlier: whoever asks is to be answered from what this istiod knows.
            await xds.start(self.settings.xds_socket)
            tasks.create_task(pusher.run())
            tasks.create_task(conditions.run())
            self.ready = True
            pusher.poke()
            log.info("ready: revision %s, %d sidecars", self.settings.revision, len(self.state.sidecars))

    def _sources(self, api: ApiClient, keys: IssuerKeys) -> list[Informer]:
        """What the configuration of the sidecars is made from."""
        state, namespace = self.state, self.settings.namespace
        handlers: list[tuple[Resource, Handler]] = [
            (PODS, state.on_pod),
            (SERVICES, state.on_service),
            (SECRETS, state.on_secret),
            (ENDPOINTSLICES, state.on_slice),
            *((one.resource, partial(state.on_config, one.kind)) for one in KINDS.values() if one.kind != keys.kind),
            (KINDS[keys.kind].resource, keys.on_policy),
        ]
        informers = [Informer(api, one, self._counted(one, handler), self._poke) for one, handler in handlers]
        return [*informers, Informer(api, CONFIGMAPS, self._on_configmap, self._poke, namespace=namespace)]

    def _poke(self, *_event: object) -> None:
        if self.ready and self._pusher:
            self._pusher.poke()

    def _on_configmap(self, event: str, configmap: Object) -> None:
        name = configmap["metadata"]["name"]
        data = {} if event == "DELETED" else configmap.get("data") or {}
        try:
            if name == self.settings.mesh_config_name:
                values = yaml.safe_load(data.get("mesh") or "") or {}
                self.state.on_mesh(mesh_config(values, root_namespace=self.settings.namespace))
            elif name == self.settings.injector_config_name:
                self._injection = injection_settings(
                    json.loads(data.get("values") or "{}"), revision=self.settings.revision
                )
        except (yaml.YAMLError, ValueError, AttributeError, TypeError) as error:
            log.warning("ConfigMap %s is not readable, its last good content stays in force: %s", name, error)
        else:
            if name in (self.settings.mesh_config_name, self.settings.injector_config_name):
                self.state.note_version("ConfigMap", event, configmap)

    def _proxies(self) -> list[Object]:
        """What every sidecar runs."""
        return syncz(self._xds, self.state.sidecars.keys()) if self._xds else []

    def _dump(self, proxy: str) -> Object | None:
        """What the sidecar `pod.namespace` shall run."""
        name, _, namespace = proxy.rpartition(".")
        key = (namespace, name)
        return config_dump(self._xds.delivery, key) if self._xds and key in self.state.sidecars else None

    def _configs(self) -> list[Object]:
        """The objects of Istio's kinds that are in what was delivered last."""
        known = self._pusher.versions if self._pusher else {}
        return [
            {"kind": kind, "namespace": namespace, "name": name, "resourceVersion": version}
            for (kind, namespace, name), version in sorted(known.items())
        ]

    def _metrics(self) -> str:
        gauges: dict[str, float] = {
            "pilot_xds": sum(bool(one.get("connected")) for one in self._proxies()),
            "pilot_services": len(self.state.snapshot().services),
        }
        counters: dict[str, float] = dict(self.counters.values)
        if pusher := self._pusher:
            root = describe_certificate(pusher.certificates.authority.root_pem)
            gauges["pilot_last_push_seconds"] = pusher.last_push_seconds
            gauges["citadel_server_root_cert_expiry_timestamp"] = root.not_after.timestamp()
            counters["pilot_xds_files_written"] = pusher.files_written
            counters["citadel_server_csr_count"] = pusher.certificates.issued
            counters["citadel_server_success_cert_issuance_count"] = pusher.certificates.issued
        if self._keys:
            counters["pilot_jwks_resolver_network_fetch_success_total"] = self._keys.fetched
            counters["pilot_jwks_resolver_network_fetch_fail_total"] = self._keys.failed
        return self.monitor.page(self.settings.version, gauges, counters)

    def _counted(self, resource: Resource, handler: Handler) -> Handler:
        """The handler, and beside it a count of what the API tells."""
        is_config = ".istio.io/" in resource.api_version

        def handle(event: str, obj: Object) -> Awaitable[None] | None:
            self.monitor.event(resource.plural, event, is_config=is_config)
            return handler(event, obj)

        return handle
