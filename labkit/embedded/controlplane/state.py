"""The cluster as the control plane knows it: fed by events, handed out as snapshots. Opens nothing.

An event is only dirt if it changes something that a proxy depends on. Most pod events are heartbeats of readiness
and change nothing here; the endpoints that follow from them arrive as EndpointSlices.
"""

from __future__ import annotations

import base64
import contextlib
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.embedded.addresses import listen_port
from labkit.embedded.controlplane.kinds import KINDS, Reach
from labkit.embedded.controlplane.translation import model
from labkit.embedded.controlplane.translation.model import (
    SERVICE_LABEL,
    Endpoint,
    Key,
    MeshConfig,
    ObjectReference,
    Service,
    Sidecar,
    Snapshot,
)
from labkit.embedded.controlplane.translation.outside import with_outside
from labkit.embedded.wire import RENEW_CONNECTIONS
from labkit.errors import InputError
from labkit.policy.credentials import Credential, is_credential, read_credential
from labkit.policy.destination_rule import client_credentials
from labkit.policy.peer_authentication import EffectiveMTLS
from labkit.policy.request_authentication import KeySource
from labkit.policy.workload import Workload, workload_from_pod

log = logging.getLogger(__name__)

Object = dict[str, Any]


Selection = tuple[str, frozenset[tuple[str, str]]]
"""A namespace, and the labels that a workload must have there."""


@dataclass
class Dirt:
    """What changed since the last push."""

    sidecars: set[Key] = field(default_factory=set)
    """Pods whose own proxy must be told anew."""
    namespaces: set[str] = field(default_factory=set)
    """Namespaces whose policies changed."""
    selected: set[Selection] = field(default_factory=set)
    """Whom the changed policies select, and whom they selected before."""
    shared: bool = False
    """Services, endpoints, identities or the mesh's settings changed."""
    clients: bool = False
    """Something changed that may concern a pod as a client: anything but a PeerAuthentication."""
    because: set[ObjectReference] = field(default_factory=set)
    """The objects that changed."""

    def __bool__(self) -> bool:
        return bool(self.sidecars or self.namespaces or self.shared)


class State:
    """All that is known. Handlers take `(event type, object)` as an Informer calls them."""

    def __init__(self, mesh: MeshConfig) -> None:
        self.mesh = mesh
        self.sidecars: dict[Key, Sidecar] = {}
        self.dirt = Dirt()
        self.versions: dict[tuple[str, str, str], str] = {}
        """The resourceVersion of each of Istio's objects, and of the mesh's settings, that has been read: kind,
        namespace, name.
        """
        self._workloads: dict[Key, Workload] = {}
        self._renewed: dict[Key, str] = {}
        self._services: dict[Key, Service] = {}
        self._secrets: dict[Key, Mapping[str, bytes]] = {}
        self._slices: dict[Key, dict[str, Object]] = defaultdict(dict)
        self._endpoints: dict[Key, dict[str, tuple[Endpoint, ...]]] = {}
        self._selections: dict[tuple[str, Key], Selection] = {}
        self._effective: dict[Key, EffectiveMTLS] = {}
        self._configs: dict[str, dict[Key, Any]] = {kind: {} for kind in KINDS}
        self._jwks: dict[KeySource, str] = {}

    def configs(self, kind: str) -> tuple[Any, ...]:
        """All objects of one of Istio's kinds, parsed."""
        return tuple(self._configs[kind].values())

    def take_dirt(self) -> Dirt:
        """What changed, which from now on counts as handled."""
        dirt, self.dirt = self.dirt, Dirt()
        return dirt

    def snapshot(self) -> Snapshot:
        """An unchanging copy of what is known now."""
        services, endpoints = with_outside(
            self._services,
            self._endpoints,
            self.configs("ServiceEntry"),
            self.configs("WorkloadEntry"),
            self._workloads.values(),
        )
        return Snapshot(
            mesh=self.mesh,
            services=services,
            endpoints=endpoints,
            policies=tuple(self._configs["PeerAuthentication"].values()),
            configs={kind: tuple(table.values()) for kind, table in self._configs.items()},
            jwks=dict(self._jwks),
            effective=self._effective,
        )

    def on_mesh(self, mesh: MeshConfig) -> None:
        if mesh != self.mesh:
            self.mesh = mesh
            self._effective = {}
            self.dirt.shared = True

    def on_pod(self, event: str, pod: Object) -> None:
        key = _key(pod)
        workload = None if event == "DELETED" else workload_from_pod(pod)
        sidecar = None if event == "DELETED" else model.read_sidecar(pod)
        if sidecar != self.sidecars.get(key):
            self.dirt.sidecars.add(key)
            _store(self.sidecars, key, sidecar)
        if workload != self._workloads.get(key):
            _store(self._workloads, key, workload)
            if self._configs["ServiceEntry"]:  # its selector may choose the pod
                self.dirt.shared = True
            # Snapshots that were handed out keep the table that they have.
            self._effective = {known: value for known, value in self._effective.items() if known != key}
            self._refresh_endpoints_of(key)
        self._renew(key, {} if event == "DELETED" else pod["metadata"].get("annotations") or {})

    def on_service(self, event: str, obj: Object) -> None:
        key = _key(obj)
        service = None if event == "DELETED" else model.read_service(obj)
        if service != self._services.get(key):
            _store(self._services, key, service)
            self.dirt.because.add(_reference("Service", obj))
            self._refresh_endpoints(key)
            self.dirt.shared = True

    def on_secret(self, event: str, obj: Object) -> None:
        """A Secret, of which only certificates for gateways and DestinationRules are kept."""
        key = _key(obj)
        data = {} if event == "DELETED" else _decoded(obj.get("data") or {})
        wanted = data if is_credential(data) else None
        if wanted != self._secrets.get(key):
            _store(self._secrets, key, wanted)
            self.dirt.because.add(_reference("Secret", obj))
            neighbours = {one: proxy for one, proxy in self.sidecars.items() if one[0] == key[0]}
            self.dirt.sidecars |= {one for one, proxy in neighbours.items() if self._uses_secrets(proxy)}

    def _uses_secrets(self, proxy: Sidecar) -> bool:
        rules = self.configs("DestinationRule")
        return proxy.gateway or bool(client_credentials(rules, proxy.workload, gateway=False))

    def credential(self, namespace: str, name: str) -> Credential:
        """What the Secrets of a namespace say under a `credentialName`."""
        return read_credential({key[1]: data for key, data in self._secrets.items() if key[0] == namespace}, name)

    def on_slice(self, event: str, obj: Object) -> None:
        service = (obj["metadata"].get("labels") or {}).get(SERVICE_LABEL)
        if not service:
            return
        key = (obj["metadata"]["namespace"], service)
        _store(self._slices[key], obj["metadata"]["name"], None if event == "DELETED" else obj)
        self._refresh_endpoints(key)

    def on_policy(self, event: str, obj: Object) -> None:
        self.on_config("PeerAuthentication", event, obj)

    def on_config(self, kind: str, event: str, obj: Object) -> None:
        """An object of one of Istio's kinds (`kinds.KINDS`)."""
        key, known = _key(obj), KINDS[kind]
        self.note_version(kind, event, obj)
        try:
            config = None if event == "DELETED" else known.read(obj)
        except InputError as error:
            # The schema and the webhook refuse these; one that got past them must not stop the others.
            log.warning("%s %s/%s is ignored: %s", kind, *key, error.what)
            config = None
        if config != self._configs[kind].get(key):
            _store(self._configs[kind], key, config)
            if kind != "PeerAuthentication":
                self.dirt.clients = True
            if known.reach is Reach.WORKLOADS:
                self._select(kind, key, None if config is None else _selection(obj))
            if kind == "PeerAuthentication":
                everywhere = key[0] == self.mesh.root_namespace
                kept = {} if everywhere else {k: v for k, v in self._effective.items() if k[0] != key[0]}
                self._effective = kept
            if known.reach is Reach.WORKLOADS:
                self.dirt.namespaces.add(key[0])
            elif known.reach is Reach.MESH:
                self.dirt.shared = True
            if event != "DELETED":
                self.dirt.because.add(_reference(kind, obj))

    def note_version(self, kind: str, event: str, obj: Object) -> None:
        """An object has been read, or is gone."""
        version = None if event == "DELETED" else obj["metadata"].get("resourceVersion")
        _store(self.versions, (kind, *_key(obj)), version)

    def on_jwks(self, source: KeySource, keys: str | None) -> None:
        """The keys of a token issuer were fetched, or (None) nobody asks for them any more."""
        if keys != self._jwks.get(source):
            _store(self._jwks, source, keys)
            for (kind, key), selection in self._selections.items():
                if kind == "RequestAuthentication" and source in self._configs[kind][key].sources:
                    self.dirt.selected.add(selection)
                    self.dirt.namespaces.add(key[0])

    def address_of(self, host: str, port: int) -> tuple[str, int] | None:
        """Where a Service's name leads on the wire; None if no Service has this name, or nobody stands behind it."""
        for service in self._services.values():
            short = f"{service.name}.{service.namespace}"
            if host not in (short, f"{short}.svc", service.host):
                continue
            # A name of a headless Service leads to its pods themselves.
            address = service.cluster_ip or self._ready_address(service.key)
            return (address, listen_port(port)) if address else None
        return None

    def _ready_address(self, service: Key) -> str:
        endpoints = (one for by_port in self._endpoints.get(service, {}).values() for one in by_port)
        return next((one.address for one in endpoints if one.ready), "")

    def affected(self, dirt: Dirt) -> set[Key]:
        """The sidecars that depend directly on what changed: the pods themselves, and those under the policies."""
        under_policy = {key for key, one in self.sidecars.items() if self._under(dirt.selected, one.workload)}
        return under_policy | (dirt.sidecars & self.sidecars.keys())

    def _under(self, selected: set[Selection], workload: Workload) -> bool:
        return any(
            namespace in (workload.namespace, self.mesh.root_namespace) and labels <= workload.labels.items()
            for namespace, labels in selected
        )

    def _select(self, kind: str, key: Key, selection: Selection | None) -> None:
        """Those whom a policy selects, and those whom it selected until now, must be told."""
        before = self._selections.get((kind, key))
        self.dirt.selected |= {one for one in (before, selection) if one}
        _store(self._selections, (kind, key), selection)

    def _renew(self, pod: Key, annotations: Mapping[str, str]) -> None:
        asked = annotations.get(RENEW_CONNECTIONS)
        if asked != self._renewed.get(pod):
            _store(self._renewed, pod, asked)
            self._refresh_endpoints_of(pod)

    def _refresh_endpoints_of(self, pod: Key) -> None:
        # A slice may name a pod before the pod itself is known here; then its identity comes late.
        for key, slices in self._slices.items():
            if key[0] == pod[0] and any(_names(obj, pod[1]) for obj in slices.values()):
                self._refresh_endpoints(key)

    def _refresh_endpoints(self, key: Key) -> None:
        service = self._services.get(key)
        slices = self._slices.get(key, {}).values()
        endpoints = model.read_endpoints(service, slices, self._workloads, self._renewed) if service else None
        if endpoints != self._endpoints.get(key):
            _store(self._endpoints, key, endpoints)
            self.dirt.shared = True


def _names(endpoint_slice: Object, pod: str) -> bool:
    return any(
        (endpoint.get("targetRef") or {}).get("name") == pod for endpoint in endpoint_slice.get("endpoints") or ()
    )


def _decoded(data: Mapping[str, str]) -> dict[str, bytes]:
    found = {}
    for name, value in data.items():
        with contextlib.suppress(ValueError):  # what is no base64 is no certificate
            found[name] = base64.b64decode(value or "", validate=True)
    return found


def _key(obj: Object) -> Key:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _selection(obj: Object) -> Selection:
    """Whom an object selects; one that names its targets in another way counts for its whole namespace."""
    spec = obj.get("spec") or {}
    labels: Object = {}
    if not (spec.get("targetRef") or spec.get("targetRefs")):
        labels = (spec.get("selector") or {}).get("matchLabels") or {}
        labels = labels or (spec.get("workloadSelector") or {}).get("labels") or {}
    return obj["metadata"]["namespace"], frozenset((name, str(value)) for name, value in labels.items())


def _reference(kind: str, obj: Object) -> ObjectReference:
    metadata = obj["metadata"]
    version = obj.get("apiVersion") or (KINDS[kind].resource.api_version if kind in KINDS else "v1")
    return ObjectReference(kind, *_key(obj), version, metadata.get("uid") or "")


def _store(table: dict[Any, Any], key: Any, value: Any) -> None:
    """Put, or with None take out."""
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
