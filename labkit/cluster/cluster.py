"""Cluster: what labkit can ask of any Kubernetes cluster, in the API's own verbs.

Nothing here knows Istio or whether the cluster is embedded; refusals arrive as errors of `labkit.errors`.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.cluster import execute, problems, streaming
from labkit.cluster.execute import ExecResult
from labkit.cluster.kinds import CRD, NAMESPACE, PEER_AUTHENTICATION, POD, Discovery, Kind, Obj
from labkit.cluster.manifests import Document, Source, load_documents
from labkit.cluster.problems import MANAGED_BY_LABEL, MANAGER
from labkit.cluster.transport import Transport
from labkit.errors import ClusterError, InputError, LabError, WaitTimeoutError, did_you_mean

Waiting = Callable[[list[Obj]], str]
"""Looks at a collection and says what is still missing; empty when nothing is."""

WAIT_SECONDS = 90.0  # a real cluster may have to pull an image first
CONFLICTS = 8  # how often at most an object is tried again that somebody else wrote meanwhile


@dataclass(frozen=True)
class Change:
    """One object that was created, configured, unchanged or deleted, and what it was before."""

    action: str
    kind: Kind
    name: str
    namespace: str | None = None
    before: Obj | None = None
    after: Obj | None = None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.kind.resource}/{self.name} {self.action}{where}"


class Cluster:
    """One cluster, through one context of a kubeconfig.

    `disposable` says that the cluster is made for lessons alone, so that a lesson may remove what stands in its way.
    """

    def __init__(
        self,
        name: str,
        *,
        kubeconfig: Path | None = None,
        context: str | None = None,
        is_embedded: bool = False,
    ) -> None:
        self.name = name
        self.kubeconfig = kubeconfig
        self.context = context
        self.is_embedded = is_embedded
        self.transport = Transport(kubeconfig, context, known_as=name)
        self.discovery = Discovery(self.transport.fetch)

    @property
    def disposable(self) -> bool:
        return self.is_embedded

    @property
    def server(self) -> str:
        return self.transport.server

    def __repr__(self) -> str:
        return f"Cluster({self.name!r}, server={self.server!r})"

    def close(self) -> None:
        """Close the connections; the cluster goes on."""
        self.transport.close()

    def version(self) -> str:
        """The API server's version. The cheapest way to ask whether it answers."""
        return str(self.transport.request("GET", "/version", action="Asking for the version").obj.get("gitVersion", ""))

    # -- reading ------------------------------------------------------------------------------------------------

    def kind(self, name: str | Kind, api_version: str | None = None) -> Kind:
        """The kind for a word (`pods`, `pa`, `PeerAuthentication`). Raises MeshError or InputError when unknown."""
        if isinstance(name, Kind):
            return name
        found = self.discovery.find(api_version, name) if api_version else self.discovery.find_by_name(name)
        if found is None:
            istio = name.lower().rstrip("s") in ("peerauthentication", "pa", "destinationrule", "dr")
            raise self._unknown(api_version or ("security.istio.io/v1" if istio else "?"), name)
        return found

    def _unknown(self, api_version: str, kind: str) -> LabError:
        served = f"PeerAuthentication ({PEER_AUTHENTICATION.api_version})"
        return problems.unknown_kind(api_version, kind, mesh_kinds=[served] if self.serves(PEER_AUTHENTICATION) else [])

    def serves(self, kind: Kind) -> bool:
        """Whether the cluster serves this kind at all. Asked anew: its definition may be gone since."""
        self.discovery.forget(kind.api_version)
        return self.discovery.find(kind.api_version, kind.kind) is not None

    def get(self, kind: str | Kind, name: str, namespace: str | None = None) -> Obj:
        """One object. Raises InputError when there is none."""
        found = self.find(kind, name, namespace)
        if found is None:
            resource = self.kind(kind).resource
            where, option = (f" in namespace {namespace!r}", f" -n {namespace}") if namespace else ("", "")
            near = did_you_mean(name, (str(one["metadata"]["name"]) for one in self.objects(kind, namespace)))
            raise InputError(
                f"There is no {resource} {name!r}{where}.",
                next_step=f"{near}See which there are: 'kubectl get {resource}{option}'.",
                kind=resource,
                name=name,
                namespace=namespace,
            )
        return found

    def find(self, kind: str | Kind, name: str, namespace: str | None = None) -> Obj | None:
        """One object, or None when there is none."""
        return self.transport.fetch(self.kind(kind).path(namespace, name))

    def objects(
        self,
        kind: str | Kind,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | str | None = None,
    ) -> list[Obj]:
        """All objects of a kind, in one namespace or in all. A kind that is not served has none."""
        return self._list(self.kind(kind) if isinstance(kind, str) else kind, namespace, labels)[0]

    def list_with_version(self, kind: Kind) -> tuple[list[Obj], str]:
        """All objects of a kind and the version to watch from, which is empty when the kind is not served."""
        return self._list(kind, None, None)

    def another(self) -> Cluster:
        """A connection of its own to the same cluster, from the same kubeconfig as it is now."""
        return Cluster(self.name, kubeconfig=self.kubeconfig, context=self.context, is_embedded=self.is_embedded)

    def _list(self, kind: Kind, namespace: str | None, labels: Mapping[str, str] | str | None) -> tuple[list[Obj], str]:
        params = {"labelSelector": _selector(labels)} if labels else {}
        path = kind.path(namespace)
        query = "&".join(f"{key}={_quoted(value)}" for key, value in params.items())
        answer = self.transport.fetch(f"{path}?{query}" if query else path)
        if answer is None:
            self.discovery.forget(kind.api_version)
            return [], ""
        items = answer.get("items", [])
        for item in items:  # the items of a list carry no kind of their own
            item.setdefault("apiVersion", kind.api_version)
            item.setdefault("kind", kind.kind)
        return items, str(answer.get("metadata", {}).get("resourceVersion", ""))

    def logs(self, pod: str, namespace: str, *, container: str | None = None, tail: int | None = None) -> str:
        """What a container printed."""
        params = {"tailLines": str(tail)} if tail is not None else {}
        if container:
            params["container"] = container
        return self.transport.text(POD.path(namespace, pod, "log"), action=f"Reading the log of {pod}", params=params)

    def proxy_get(self, pod: str, namespace: str, port: int, path: str = "/") -> str:
        """GET a path of a pod's port, through the API server."""
        url = f"{POD.path(namespace, f'{pod}:{port}', 'proxy')}/{path.lstrip('/')}"
        return self.transport.text(url, action=f"GET {path} of pod {pod}, port {port}")

    def execute(
        self,
        pod: str,
        namespace: str,
        command: Sequence[str],
        *,
        container: str | None = None,
        limit: float = 30.0,
    ) -> ExecResult:
        """Run a program in a container. A program that fails is a result; a pod that is not there is an error."""
        return execute.run(self.transport, POD.path(namespace, pod, "exec"), command, container, limit)

    def stream(
        self, pod: str, namespace: str, command: Sequence[str], *, container: str | None = None
    ) -> streaming.Stream:
        """Run a program in a container whose output is wanted while it runs."""
        path = POD.path(namespace, pod, "exec")
        return streaming.Stream(execute.connect(self.transport, path, command, container, stdin=True), pod)

    def add_ephemeral_container(self, pod: str, namespace: str, container: Obj) -> Obj:
        """Add a container to a pod that runs, as `kubectl debug` does; the pod as it is then.

        It stays in the pod's list for as long as the pod lives: Kubernetes takes none of them away.
        """
        answer = self.transport.request(
            "PATCH",
            POD.path(namespace, pod, "ephemeralcontainers"),
            action=f"Adding the container {container['name']} to pod {pod}",
            body={"spec": {"ephemeralContainers": [container]}},
            content_type="application/strategic-merge-patch+json",
        )
        return answer.obj

    # -- changing -----------------------------------------------------------------------------------------------

    def apply(self, source: Source, *, namespace: str | None = None) -> list[Change]:
        """Server-side apply of all documents, or of none: each is validated by the API server first.

        Documents without a namespace go to `namespace`, else to `default`. The label
        `app.kubernetes.io/managed-by=labkit` is added. Conflicts with other field managers are decided for the
        manifest, as plain `kubectl apply` does.
        """
        documents = [self._prepared(document, namespace) for document in load_documents(source)]
        planned = [(document, *self._plan(document, documents)) for document in documents]
        changes: list[Change] = []
        try:
            for document, kind, before in planned:
                changes.append(self._apply_one(document, kind, before))
        except LabError:
            # Validation passed, so this is rare (a race, a webhook that went away); still nothing is left half done.
            for change in reversed(changes):
                if change.action == "created":
                    self.delete(change.kind, change.name, change.namespace)
            raise
        return changes

    def _prepared(self, document: Document, namespace: str | None) -> Document:
        obj = copy.deepcopy(document.obj)
        labels = obj["metadata"].setdefault("labels", {}) or {}
        obj["metadata"]["labels"] = {**labels, MANAGED_BY_LABEL: MANAGER}
        if namespace and not document.namespace:
            obj["metadata"]["namespace"] = namespace
        return Document(obj, document.source)

    def _plan(self, document: Document, together: list[Document]) -> tuple[Kind | None, Obj | None]:
        """The kind (None when a CRD of the same set will bring it) and the object before; validated by dry run."""
        kind = self.discovery.find(document.api_version, document.kind)
        if kind is None:
            if any(_defines(other, document) for other in together):
                return None, None
            raise self._unknown(document.api_version, document.kind)
        namespace = _namespace_of(document, kind)
        made_here = any(other.kind == "Namespace" and other.name == namespace for other in together)
        if namespace and made_here and self.find(NAMESPACE, namespace) is None:
            return kind, None  # a dry run would miss the namespace that the same set makes
        before = self.find(kind, document.name, namespace)
        self._patch_apply(document, kind, dry_run=True)
        return kind, before

    def _apply_one(self, document: Document, kind: Kind | None, before: Obj | None) -> Change:
        if kind is None:
            kind = self._await_kind(document)
            before = self.find(kind, document.name, _namespace_of(document, kind))
        after, warnings = self._patch_apply(document, kind)
        if before is None:
            action = "created"
        elif _version(before) == _version(after):
            action = "unchanged"
        else:
            action = "configured"
        if kind == CRD:
            self.discovery.forget(f"{document.obj['spec']['group']}/{document.obj['spec']['versions'][0]['name']}")
        return Change(action, kind, document.name, _namespace_of(document, kind), before, after, warnings)

    def _await_kind(self, document: Document, limit: float = 10.0) -> Kind:
        # A new CRD is served a moment after it is accepted; the API offers no watch for "is served".
        until = time.monotonic() + limit
        pause = 0.01
        while (kind := self.discovery.find(document.api_version, document.kind)) is None:
            if time.monotonic() > until:
                raise self._unknown(document.api_version, document.kind)
            time.sleep(pause)
            pause = min(2 * pause, 0.25)
        return kind

    def _patch_apply(self, document: Document, kind: Kind, *, dry_run: bool = False) -> tuple[Obj, tuple[str, ...]]:
        params = {"fieldManager": MANAGER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        try:
            answer = self.transport.request(
                "PATCH",
                kind.path(_namespace_of(document, kind), document.name),
                action=f"Applying {document}",
                params=params,
                body=document.obj,
                content_type="application/apply-patch+yaml",
            )
        except LabError as error:
            if problems.is_not_served(error):  # the definition went away since it was looked up
                self.discovery.forget(kind.api_version)
                raise self._unknown(document.api_version, document.kind) from error
            raise
        return answer.obj, answer.warnings

    def delete(self, kind: str | Kind, name: str, namespace: str | None = None) -> Change:
        """Delete one object; one that is not there is no error, and the change says so."""
        kind = self.kind(kind)
        before = self.find(kind, name, namespace)
        if before is None:
            return Change("absent", kind, name, namespace)
        # Background: what it owns goes with it. The default of some kinds would orphan it.
        body = {"propagationPolicy": "Background", "preconditions": {"uid": before["metadata"].get("uid")}}
        action = f"Deleting {kind.resource} {name}"
        self.transport.request("DELETE", kind.path(namespace, name), action=action, body=body)
        return Change("deleted", kind, name, namespace, before)

    def delete_documents(self, source: Source, *, namespace: str | None = None) -> list[Change]:
        """Delete what a manifest names, last document first. Kinds that are not served count as absent."""
        changes = []
        for document in reversed([self._prepared(document, namespace) for document in load_documents(source)]):
            kind = self.discovery.find(document.api_version, document.kind)
            if kind is not None:
                changes.append(self.delete(kind, document.name, _namespace_of(document, kind)))
        return changes

    def patch(self, kind: str | Kind, name: str, patch: Obj, namespace: str | None = None) -> Change:
        """A JSON merge patch (RFC 7386): a value of None removes the field."""
        kind = self.kind(kind)
        before = self.get(kind, name, namespace)
        answer = self.transport.request(
            "PATCH",
            kind.path(namespace, name),
            action=f"Changing {kind.resource} {name}",
            params={"fieldManager": MANAGER},
            body=patch,
            content_type="application/merge-patch+json",
        )
        action = "unchanged" if _version(before) == _version(answer.obj) else "configured"
        return Change(action, kind, name, namespace, before, answer.obj, answer.warnings)

    def label(
        self, kind: str | Kind, name: str, labels: Mapping[str, str | None], namespace: str | None = None
    ) -> Change:
        """Set labels; a value of None removes the label."""
        return self.patch(kind, name, {"metadata": {"labels": dict(labels)}}, namespace)

    def create_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> Change:
        """Make a namespace; one that exists only gets the labels.

        The labels are patched on, not applied: applied, they would vanish when a manifest of the same namespace
        without them is applied later, which no learner would expect of `kubectl label`.
        """
        change = Change("unchanged", NAMESPACE, name)
        if self.find(NAMESPACE, name) is None:
            change = self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})[0]
        if labels:
            labelled = self.label(NAMESPACE, name, labels)
            change = labelled if change.action == "unchanged" else dataclasses.replace(change, after=labelled.after)
        return change

    def restore(self, obj: Obj, kind: Kind) -> None:
        """Put an object back as it was: replace it, or make it anew when it is gone.

        What is made anew is as old as now. Of several policies at one level the oldest counts, so restore them in
        the order of their age. A controller may write the object's status in the very moment; then it is tried again,
        as client-go's RetryOnConflict does.
        """
        for _ in range(CONFLICTS):
            try:
                self._replace(obj, kind)
                return
            except ClusterError as error:
                if error.details.get("status") != 409:
                    raise
        self._replace(obj, kind)

    def _replace(self, obj: Obj, kind: Kind) -> None:
        metadata = {k: v for k, v in obj["metadata"].items() if k not in ("resourceVersion", "uid", "managedFields")}
        wanted = {**obj, "metadata": metadata}
        name, namespace = metadata["name"], metadata.get("namespace")
        action = f"Restoring {kind.resource} {name}"
        found = self.find(kind, name, namespace)
        if found is None:
            self.transport.request("POST", kind.path(namespace), action=action, body=wanted)
        else:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]  # custom resources must name it
            self.transport.request("PUT", kind.path(namespace, name), action=action, body=wanted)

    # -- waiting ------------------------------------------------------------------------------------------------

    def wait_until(
        self,
        kind: str | Kind,
        missing: Waiting,
        *,
        what: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | str | None = None,
        limit: float = WAIT_SECONDS,
    ) -> list[Obj]:
        """Watch a collection until `missing` says nothing is missing; returns the collection.

        Raises WaitTimeoutError, which names what was awaited and what was last seen.
        """
        kind = self.kind(kind)
        until = time.monotonic() + limit
        params = {"labelSelector": _selector(labels)} if labels else {}
        seen = "nothing yet"
        while time.monotonic() < until:
            items, version = self._list(kind, namespace, labels)
            known = {_key(item): item for item in items}
            if not (seen := missing(list(known.values()))):
                return list(known.values())
            watch = {
                "watch": "1",
                "resourceVersion": version,
                "timeoutSeconds": str(max(1, int(until - time.monotonic()))),
                **params,
            }
            for event in self.transport.lines(kind.path(namespace), watch, until=until):
                if event["type"] == "ERROR":  # 410: the version is too old; list again
                    break
                _take(known, event)
                if not (seen := missing(list(known.values()))):
                    return list(known.values())
        raise in_vain(what, seen, limit)

    def wait_until_gone(self, changes: Iterable[Change], *, limit: float = WAIT_SECONDS) -> None:
        """Wait until deleted objects have left the API: a namespace takes its content along first."""
        for change in changes:
            name = change.name

            def still_there(items: list[Obj], name: str = name, uid: object = _uid(change.before)) -> str:
                there = [i for i in items if i["metadata"]["name"] == name and i["metadata"].get("uid") == uid]
                return f"{name} is {there[0].get('status', {}).get('phase', 'there')}" if there else ""

            if change.action == "deleted":
                what = f"{change.kind.resource} {name} to be gone"
                self.wait_until(change.kind, still_there, what=what, namespace=change.namespace, limit=limit)


def in_vain(what: str, seen: str, limit: float) -> WaitTimeoutError:
    """The error of a wait that ended without what was awaited."""
    return WaitTimeoutError(
        f"Waited {limit:g} s for {what}, in vain.",
        meaning=f"Last seen: {seen}.",
        next_step="Look at lab.pods() and lab.events(), or give it more time with limit=...",
        awaited=what,
        seen=seen,
    )


def _take(objects: dict[str, Obj], event: Obj) -> None:
    if event["type"] == "DELETED":
        objects.pop(_key(event["object"]), None)
    elif event["type"] != "BOOKMARK":
        objects[_key(event["object"])] = event["object"]


def _defines(crd: Document, document: Document) -> bool:
    if crd.kind != "CustomResourceDefinition":
        return False
    spec = crd.obj.get("spec", {})
    served = {f"{spec.get('group')}/{version.get('name')}" for version in spec.get("versions", [])}
    return document.api_version in served and spec.get("names", {}).get("kind") == document.kind


def _namespace_of(document: Document, kind: Kind) -> str | None:
    return (document.namespace or "default") if kind.namespaced else None


def _version(obj: Obj) -> object:
    return obj.get("metadata", {}).get("resourceVersion")


def _uid(obj: Obj | None) -> object:
    return (obj or {}).get("metadata", {}).get("uid")


def _key(obj: Obj) -> str:
    metadata = obj["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def _selector(labels: Mapping[str, str] | str | None) -> str:
    if labels is None or isinstance(labels, str):
        return labels or ""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _quoted(value: str) -> str:
    from urllib.parse import quote

    return quote(value, safe="")


__all__ = ["Change", "Cluster", "ClusterError", "Waiting"]
