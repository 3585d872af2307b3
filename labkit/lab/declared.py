"""The declared view: what objects alone say of every call, of a change before it is applied, and of the way to STRICT.

Every question works on a cluster and on files: `labkit.files("manifests/")` answers what `lab` answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.cluster.manifests import Source, load_documents
from labkit.cluster.trees import Tree, read_tree
from labkit.errors import InputError, MeshError, did_you_mean
from labkit.installers.fields import unknown_fields, unknown_kind
from labkit.observe.declared_mesh import make_declared_mesh
from labkit.observe.planned_pods import planned_snapshot
from labkit.observe.seen import traffic_of
from labkit.observe.traffic import address_of, path_of
from labkit.outcomes import Outcome, RequestKind
from labkit.policy.declared import DeclaredMesh, EdgeVerdict
from labkit.policy.declared.changing import Change, preview
from labkit.policy.declared.judging import Asked
from labkit.policy.declared.mesh import Key, key_of
from labkit.policy.declared.migrating import migrate
from labkit.policy.declared.traffic import Traffic, read_traffic
from labkit.policy.declared.verifying import read_expectations, verify
from labkit.policy.destination_rule import CLUSTER_DOMAIN

if TYPE_CHECKING:
    from labkit.views.analysis import Analysis
    from labkit.views.declared import Explained, Previewed, Verified
    from labkit.views.edge_table import EdgeTable
    from labkit.views.encryption_map import EncryptionMap
    from labkit.views.planned import Planned


class DeclaredQuestions:
    """What the objects say.

    lab.explain(client, server, port)        the verdict for one call, both sides, each deciding object with its rule;
                                             the server is a Service (shop/web, web.shop), a URL, or a pod's address;
                                             request="tcp" or "tls" if the application does not send HTTP
    lab.explain_all(*namespaces, only=None)  the same for all pairs as a table; only="plaintext" for those alone
    lab.migrate(traffic=None)                the way to STRICT: whom to inject first, which rules conflict, what is safe
    lab.verify(forbid="plaintext")           what is not as wished; expect=[{client, server, port, verdict}], exempt=
    lab.preview(source, delete=False)        what a change would do to every edge, before it is applied;
                                             restart=["shop/web", "shop/*"]: with pods made anew; traffic=lab.rates()
    """

    def declared_mesh(self) -> DeclaredMesh:
        """All that the objects say, for questions of your own."""
        raise NotImplementedError

    def explain(self, client: str, server: str, port: int | str = 0, *, request: str | None = None) -> Explained:
        """The verdict for calls of a client to a port of a server (its number or name; 0: its only one), and every
        reason for it.
        """
        from labkit.views.declared import Explained

        asked = None
        if "://" in server:
            asked = Asked(path_of(server))
            server, port = address_of(server)
        kind = _choice(RequestKind, request, "request") if request else None
        mesh = self.declared_mesh()
        if isinstance(port, str) and port and not port.isdigit():
            port = _port_named(mesh, client, server, port)
        return Explained(mesh.explain(client, server, _port(port), kind, asked))

    def explain_all(self, *namespaces: str, only: str | None = None) -> EdgeTable:
        """The verdicts for all pairs, or for those with a client or a server in some namespaces."""
        from labkit.views.declared import edge_table

        return edge_table(self.edges(*namespaces, only=only))

    def edges(self, *namespaces: str, only: str | None = None) -> list[EdgeVerdict]:
        """The same as objects."""
        mesh = self.declared_mesh()
        _known(mesh, namespaces)
        wanted = _choice(Outcome, only, "verdict") if only else None
        return [
            edge
            for edge in mesh.edges()
            if (not namespaces or edge.client.namespace in namespaces or edge.target.namespace in namespaces)
            and wanted in (None, edge.outcome)
        ]

    def preview(
        self,
        source: Source | None = None,
        *,
        delete: bool | Source = False,
        restart: Sequence[str] = (),
        traffic: Any = None,
        namespace: str | None = None,
    ) -> Previewed:
        """What a change would do to every edge, before it is applied.

        `source` is what would be applied; with `delete=True`, what would be deleted. `delete` may also name something
        of its own: "peerauthentication/default", or a path.
        """
        from labkit.views.declared import Previewed

        change, mesh = _change(source, delete, restart, namespace), self.declared_mesh()
        _known_templates(mesh, change)
        found = preview(mesh, change, _traffic(traffic))
        unread = [f"{said}." for one in change.apply for said in _unread(one)]
        refused = (*self.not_taken(change.apply), *found.refused)
        return Previewed(replace(found, refused=refused, notes=(*found.notes, *unread)))

    def not_taken(self, objects: Sequence[Mapping[str, Any]]) -> list[str]:
        """What an API server would refuse of some objects for their kind."""
        return [f"{one.get('kind')} {key_of(one)[2]}: {said}." for one in objects if (said := unknown_kind(one))]

    def migrate(self, traffic: Any = None) -> Planned:
        """The way of the whole mesh to STRICT, in an order in which nobody is cut off, every step tried beforehand.

        With observed `traffic` (requests per minute by edge) only calls that were seen count.
        """
        from labkit.views.planned import Planned

        mesh = self.declared_mesh()
        if not mesh.settings.installed:
            raise MeshError(
                "No mesh is installed on this cluster.",
                meaning="STRICT is enforced by sidecars, and here nobody makes them or tells them what to do.",
                next_step="Install one: lab.install_mesh().",
            )
        return Planned(migrate(mesh, _traffic(traffic)))

    def verify(
        self,
        *,
        forbid: str | Sequence[str] = "plaintext",
        expect: Any = (),
        exempt: str | Sequence[str] = (),
        namespaces: str | Sequence[str] = (),
    ) -> Verified:
        """Hold wishes against what is declared: which verdicts no call may have, and which calls are to be how.

        `expect` is a list of {client, server, port, verdict}; `exempt` are patterns for clients, servers or
        "client -> server" that are let be; of `namespaces` only calls into them are looked at.
        """
        from labkit.views.declared import Verified

        mesh = self.declared_mesh()
        into = _texts(namespaces)
        _known(mesh, into)
        forbidden = [_choice(Outcome, one, "verdict") for one in _texts(forbid)]
        return Verified(verify(mesh, forbidden, read_expectations(expect), _texts(exempt), into))


class Files(DeclaredQuestions):
    """Manifests without a cluster: the declared questions of `lab`, answered from the objects alone."""

    def __init__(self, *sources: str | Path, namespace: str = "", root_namespace: str = "") -> None:
        self.sources = sources
        self.tree: Tree = read_tree(sources, namespace)
        self.tree.notes[:0] = [said for one in self.tree.objects for said in _unread(one, self.tree)]
        self.tree.notes[:0] = [said for one in self.tree.objects for said in _of_no_kind(one, self.tree)]
        self._mesh = make_declared_mesh(self.tree.objects, root_namespace, self.tree.at)

    def declared_mesh(self) -> DeclaredMesh:
        """All that the objects say."""
        return self._mesh

    def analyze(self, **wanted: Any) -> Analysis:
        """What does not fit together, with the codes of istioctl and Kiali; options as those of `lab.analyze`."""
        from labkit.lab.analysis import analyze_tree

        return analyze_tree(self.tree, self.sources, self._mesh.settings.root_namespace, **wanted)

    def map(self, *namespaces: str, special: bool = False) -> EncryptionMap:
        """The encryption map of what the files declare, with a pod for each template; nothing was tried."""
        from labkit.views.encryption_map import EncryptionMap
        from labkit.views.model import make_map

        _known(self._mesh, namespaces)
        return EncryptionMap(make_map(planned_snapshot(self._mesh, *namespaces), (), special=special))

    def __repr__(self) -> str:
        tree, mesh = self.tree, self._mesh
        counted = f"{len(tree.objects)} objects, {len(mesh.clients)} workloads, {len(mesh.servers)} ports to call"
        skipped = f"; passed over: {', '.join(tree.skipped)}" if tree.skipped else ""
        return f"Files({counted}{skipped})"


def _of_no_kind(obj: Mapping[str, Any], tree: Tree) -> list[str]:
    """That an object counts for nothing, because Istio has no such kind."""
    kind, namespace, name = key_of(obj)
    place = tree.place_of(kind, namespace, name, "kind")
    where, wrong = f" ({place})" if place else "", unknown_kind(obj)
    said = f"{kind} {namespace}/{name}{where} counts for nothing here, and 'kubectl apply' refuses it: {wrong}"
    return [said] if wrong else []


def _unread(obj: Mapping[str, Any], tree: Tree | None = None) -> list[str]:
    """What of an object counts for nothing, because its kind does not know the field."""
    kind, namespace, name = key_of(obj)
    place = tree.place_of(kind, namespace, name, "spec") if tree else None
    where = f" ({place})" if place else ""
    return [
        f"{kind} {namespace}/{name}{where} has the field {path}, which {kind} does not have; it counts for nothing "
        "here, and 'kubectl apply' refuses it"
        for path in unknown_fields(obj)
    ]


def _change(source: Source | None, delete: bool | Source, restart: Sequence[str], namespace: str | None) -> Change:
    if isinstance(restart, str):
        restart = (restart,)
    applied = _objects(source, namespace) if source is not None and delete is not True else []
    gone: list[Key] = []
    if delete is True:
        gone = _keys(source, namespace) if source is not None else []
    elif delete is not False:
        gone = _keys(delete, namespace)
    if not (applied or gone or restart):
        raise InputError(
            "There is no change to look at.",
            next_step="Give a manifest, what to delete, or whose pods are made anew (restart).",
        )
    return Change(applied, gone, tuple(restart))


def _objects(source: Source, namespace: str | None) -> list[dict[str, Any]]:
    found = []
    for document in load_documents(source):
        obj = dict(document.obj)
        if namespace and not document.namespace:
            obj["metadata"] = {**obj["metadata"], "namespace": namespace}
        found.append(obj)
    return found


def _keys(source: Source, namespace: str | None) -> list[Key]:
    """What is deleted: by manifest, or as `kind/name`."""
    if isinstance(source, list | tuple):
        return [key for one in source for key in _keys(one, namespace)]
    parts = source.split("/") if isinstance(source, str) else []
    if len(parts) == 2 and all(parts) and not Path(str(source)).exists():
        kind = _KINDS.get(parts[0].lower())
        if kind is None:
            raise InputError(
                f"{parts[0]!r} is no kind whose objects decide about an edge.",
                next_step=f"Write one of {', '.join(sorted(set(_KINDS.values())))}, or give a manifest.",
            )
        return [key_of({"kind": kind, "metadata": {"name": parts[1], "namespace": namespace}})]
    return [key_of(one) for one in _objects(source, namespace)]


def _kind_names() -> dict[str, str]:
    from labkit.policy.declared import KINDS_READ

    short = {"pa": "PeerAuthentication", "dr": "DestinationRule", "vs": "VirtualService", "se": "ServiceEntry"}
    short |= {"gw": "Gateway", "ns": "Namespace", "svc": "Service", "deploy": "Deployment", "we": "WorkloadEntry"}
    short |= {"po": "Pod", "sts": "StatefulSet", "ds": "DaemonSet"}
    for kind in KINDS_READ:
        plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
        short |= {kind.lower(): kind, plural.lower(): kind}
    return short


_KINDS = _kind_names()


def _traffic(written: Any) -> Traffic | None:
    """Traffic from a mapping, or from what `lab.metrics()` and `lab.rates()` hand back."""
    if written is None or isinstance(written, Mapping):
        return None if written is None else read_traffic(written)
    if hasattr(written, "lines"):
        return traffic_of(written.lines, written.seconds)
    raise InputError(
        f"{type(written).__name__} says nothing of traffic.",
        next_step='Give lab.rates(), or {"shop/client -> shop/server:8080": 120}.',
    )


def _texts(one_or_many: str | Sequence[str]) -> list[str]:
    return [one_or_many] if isinstance(one_or_many, str) else list(one_or_many)


def _choice(words: Any, written: str, what: str) -> Any:
    for one in words:
        if str(written).lower() == one.value.lower():
            return one
    known = ", ".join(one.value for one in words)
    raise InputError(f"{written!r} is no {what}.", next_step=f"Write one of {known}.")


def _port_named(mesh: DeclaredMesh, client: str, server: str, name: str) -> int:
    """The number of a port that a Service or a ServiceEntry calls so."""
    host = mesh.registry.host_of(server, mesh.registry.group(client).namespace)
    ports: dict[str, int] = {}
    for one in mesh.objects:
        spec, (kind, namespace, own) = one.get("spec") or {}, key_of(one)
        theirs = [f"{own}.{namespace}.svc.{CLUSTER_DOMAIN}"] if kind == "Service" else spec.get("hosts") or ()
        if kind in ("Service", "ServiceEntry") and host in theirs:
            named = {str(port["name"]): port for port in spec.get("ports") or () if port.get("name")}
            ports |= {key: int(port.get("port") or port.get("number") or 0) for key, port in named.items()}
    if not ports:
        mesh.registry.target(server, 0)  # says that there is no such server
    if name not in ports:
        known = ", ".join(f"{key} ({number})" for key, number in ports.items()) or "none of them has a name"
        raise InputError(
            f"{server} has no port {name!r}.",
            meaning="A port is a number, or the name that the Service gives it.",
            next_step=f"{did_you_mean(name, ports)}Its ports: {known}.",
            port=name,
        )
    return ports[name]


def _port(port: Any) -> int:
    if isinstance(port, bool) or not isinstance(port, int | str) or not str(port).isdigit() or int(port) > 65535:
        raise InputError(f"{port!r} is no port.", next_step="Write a number between 1 and 65535.", port=port)
    return int(port)


def _known_templates(mesh: DeclaredMesh, change: Change) -> None:
    """Raises InputError where pods are to be made anew, and nothing makes pods by that name."""
    known = [one for one in (*mesh.objects, *change.apply) if (one.get("spec") or {}).get("template")]
    makers = {key_of(one)[1:] for one in known if not one["metadata"].get("ownerReferences")}
    there = {f"{namespace}/{name}" for namespace, name in makers}
    for one in change.restart:
        namespace, _, name = one.rpartition("/")
        wanted = f"{namespace or 'default'}/{name}"
        if wanted in there or (name == "*" and any(home == namespace for home, _ in makers)):
            continue
        near = did_you_mean(wanted, sorted(there | {f"{home}/*" for home, _ in makers}))
        raise InputError(
            f"Nothing makes pods called {wanted!r}, so none are made anew.",
            meaning="To restart is written namespace/name of a Deployment, or namespace/* for all of a namespace.",
            next_step=f"{near}Here: {', '.join(sorted(there)[:12]) or 'none'}.",
        )


def _known(mesh: DeclaredMesh, namespaces: Iterable[str]) -> None:
    there = {group.namespace for group in mesh.registry.groups} | {one.namespace for one in mesh.registry.targets}
    for name in namespaces:
        if name not in there and name not in mesh.registry.namespaces:
            raise InputError(
                f"There is nothing in a namespace {name!r}.",
                next_step=f"{did_you_mean(name, there)}Here: {', '.join(sorted(there)) or 'none'}.",
            )
