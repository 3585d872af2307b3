"""Create, read, update, delete: what each verb means for an object, whatever brought the request here.

The order is Kubernetes': decode, default, mutating webhooks, validate, validating webhooks, store. A write reads,
computes and compares the version before it stores, so two clients never overwrite each other unseen. HTTP, patches
and watches live elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from labkit.embedded.apiserver import customresources, decoding, deletions, validation
from labkit.embedded.apiserver.accounts import check_account
from labkit.embedded.apiserver.admission import Admission, Review
from labkit.embedded.apiserver.clusterips import ClusterIPs
from labkit.embedded.apiserver.defaults import apply_defaults
from labkit.embedded.apiserver.deletions import DeleteOptions
from labkit.embedded.apiserver.failures import (
    StatusError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid_object,
    not_found,
)
from labkit.embedded.apiserver.managedfields import track_update
from labkit.embedded.apiserver.objects import (
    generated_name,
    now,
    prepare_create,
    prepare_update,
    same_but_version,
)
from labkit.embedded.apiserver.resources import CRDS, NAMESPACES, PODS, SERVICES, Catalogue, Kind
from labkit.embedded.apiserver.storage import Record, Storage, encode, make_record
from labkit.embedded.apiserver.unserved import NODE_DEBUGGER, is_node_debugger, warning_for

Object = dict[str, Any]

RETRIES = 50  # of a write that lost a race; a client that named a version is told of the conflict instead

# plugin/pkg/admission/namespace/lifecycle: the namespaces that a cluster cannot be without.
IMMORTAL_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})


@dataclass
class WriteOptions:
    """What a client may say about a write, besides the object."""

    dry_run: bool = False
    field_validation: str = "Warn"
    field_manager: str = "unknown"
    warnings: list[str] = field(default_factory=list)
    applying: bool = False
    """Server-side apply brings its own managedFields."""


Change = Callable[[Object], Object]
"""From the stored object (a copy, the caller's to change) to the wanted one; it may raise StatusError."""


class Registry:
    """The objects of one cluster and the rules for changing them."""

    def __init__(self, storage: Storage, catalogue: Catalogue, admission: Admission, block: int) -> None:
        self.storage = storage
        self.catalogue = catalogue
        self.admission = admission
        self.cluster_ips = ClusterIPs(storage, block)

    def read(self, kind: Kind, namespace: str, name: str) -> Record:
        """One object, or 404."""
        record = self.storage.get(kind.resource, namespace if kind.namespaced else "", name)
        if record is None:
            raise not_found(kind.plural, kind.group, name)
        return record

    # Create.

    async def create(self, kind: Kind, namespace: str, obj: Object, options: WriteOptions) -> Record:
        """Store a new object. Raises 404 (namespace), 409 (exists), 422 (invalid)."""
        self.check_identity(kind, obj, namespace)
        obj = self.decode(kind, obj, options)
        metadata = obj.setdefault("metadata", {})
        generate = not metadata.get("name") and metadata.get("generateName")
        if generate:
            metadata["name"] = generated_name(metadata["generateName"])
        prepare_create(kind, obj, namespace)
        if kind.namespaced:
            self._check_namespace(kind, namespace, metadata.get("name", ""))
        self._complete(kind, obj, None)
        if warning := warning_for(kind.group, kind.plural):
            options.warnings.append(warning)
        if kind.resource == PODS:
            if is_node_debugger(obj):
                options.warnings.append(NODE_DEBUGGER)
            await check_account(self.storage, obj, namespace)
        review = Review("CREATE", kind, namespace, metadata.get("name", ""), None, options.dry_run, options.warnings)
        obj = await self._admit(review, obj, options)
        self._validate(kind, obj, None)
        await self.admission.validate(review, obj)
        name = obj["metadata"]["name"]
        if self.storage.get(kind.resource, obj["metadata"].get("namespace", ""), name):
            raise already_exists(kind.plural, kind.group, name)
        if not options.applying:
            track_update(kind, None, obj, options.field_manager, "")
        if kind.resource == SERVICES:
            self.cluster_ips.assign(obj, None)
        return self._store(kind, obj, options.dry_run)

    def check_identity(self, kind: Kind, obj: Any, namespace: str) -> None:
        """The object must be of the kind, and in the namespace, that the URL names."""
        if not isinstance(obj, dict):
            raise bad_request("the object provided is unrecognized (must be of type object)")
        api_version, kind_name = obj.setdefault("apiVersion", kind.api_version), obj.setdefault("kind", kind.kind)
        if (api_version, kind_name) != (kind.api_version, kind.kind):
            raise bad_request(
                f"the object provided is unrecognized: {api_version}, Kind={kind_name} does not match the expected "
                f"{kind.api_version}, Kind={kind.kind}"
            )
        metadata = obj.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            raise bad_request("json: cannot unmarshal into Go struct field .metadata of type v1.ObjectMeta")
        given = (metadata or {}).get("namespace")
        if kind.namespaced and given and given != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        record = self.storage.get(NAMESPACES, "", namespace)
        if record is None:
            raise not_found("namespaces", "", namespace)
        if record.load()["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            failure = forbidden(kind.plural, kind.group, name, why)
            assert failure.details is not None
            failure.details["causes"] = [
                {"reason": "NamespaceTerminating", "message": why, "field": "metadata.namespace"}
            ]
            raise failure

    def decode(self, kind: Kind, obj: Object, options: WriteOptions) -> Object:
        """The object in the shape of its kind. Raises 400; unknown fields are dropped, and reported as asked."""
        try:
            if kind.custom:
                obj, unknown = customresources.decode(kind, obj)
            else:
                obj, unknown = decoding.decode_builtin(obj, kind.model)
        except decoding.WrongType as error:
            raise bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {error}'
            ) from None
        if unknown and options.field_validation == "Strict":
            words = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
                f"strict decoding error: {words}"
            )
        if options.field_validation == "Warn":
            options.warnings += [f'unknown field "{path}"' for path in unknown]
        return obj

    def _complete(self, kind: Kind, obj: Object, old: Object | None) -> None:
        """Fill in defaults, and what depends on the object's identity."""
        if kind.custom:
            customresources.apply_defaults(kind, obj)
            return
        apply_defaults(kind.resource, obj)
        if old is None:
            if kind.resource == NAMESPACES:
                obj["spec"] = {"finalizers": ["kubernetes"]}
            elif kind.resource == "batch/jobs":
                _complete_job(obj)
        if kind.resource == CRDS:
            customresources.complete_definition(obj, old)

    async def _admit(self, review: Review, obj: Object, options: WriteOptions) -> Object:
        """Mutating webhooks; what they changed is decoded and defaulted again."""
        changed = await self.admission.mutate(review, obj)
        if changed is obj:
            return obj
        self.check_identity(review.kind, changed, review.namespace)
        changed = self.decode(review.kind, changed, WriteOptions(field_validation="Ignore"))
        self._complete(review.kind, changed, review.old)
        return changed

    def _validate(self, kind: Kind, obj: Object, old: Object | None) -> None:
        causes = validation.validate(kind, obj, old)
        if kind.custom:
            causes += customresources.validate(kind, obj)
        elif kind.resource == CRDS:
            try:
                causes += customresources.validate_definition(obj, self.catalogue)
            except decoding.WrongType as error:
                raise bad_request(
                    f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {error}'
                ) from None
        if causes:
            raise invalid_object(kind.kind, kind.group, obj["metadata"].get("name", ""), causes)

    # Update.

    async def update(
        self, kind: Kind, namespace: str, name: str, change: Change, options: WriteOptions, subresource: str = ""
    ) -> Record:
        """Replace an object by `change(object)`. Raises 404, 409 (somebody was faster), 422."""
        for _ in range(RETRIES):
            record = self.read(kind, namespace, name)
            old = record.load()
            old["apiVersion"] = kind.api_version
            new = change(record.load() | {"apiVersion": kind.api_version})
            named_version = self._check_version(kind, new, record)
            new = await self._prepared(kind, old, new, options, subresource, name)
            if self.storage.get(kind.resource, record.namespace, name) is not record:
                if named_version:
                    raise conflict(kind.plural, kind.group, name)
                continue  # somebody wrote while a webhook was asked; do it again on the new state
            return self._store_update(kind, record, old, new, options, subresource)
        raise conflict(kind.plural, kind.group, name)

    def _check_version(self, kind: Kind, new: Object, record: Record) -> bool:
        if not isinstance(new.get("metadata"), dict):
            raise bad_request("metadata: Required value")
        version = new["metadata"].pop("resourceVersion", None)
        if version and version != str(record.version):
            raise conflict(kind.plural, kind.group, record.name)
        uid = new["metadata"].get("uid")
        if uid and uid != record.uid:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {record.uid}"
            raise conflict(kind.plural, kind.group, record.name, why)
        return bool(version)

    async def _prepared(
        self, kind: Kind, old: Object, new: Object, options: WriteOptions, subresource: str, name: str
    ) -> Object:
        namespace = old["metadata"].get("namespace", "")
        self.check_identity(kind, new, namespace)
        given = new["metadata"].get("name", name)
        if given != name:
            raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
        new = self.decode(kind, new, options)
        self._complete(kind, new, old)  # before comparing, or a default left out would count as a change
        new = prepare_update(kind, old, new, subresource)
        self._complete(kind, new, old)
        validation.keep_immutable(kind, old, new, subresource)
        review = Review("UPDATE", kind, namespace, name, old, options.dry_run, options.warnings, subresource)
        admitted = await self._admit(review, new, options)
        if admitted is not new:
            new = prepare_update(kind, old, admitted, subresource)
        self._validate(kind, new, old)
        await self.admission.validate(review, new)
        return new

    def _store_update(
        self, kind: Kind, record: Record, old: Object, new: Object, options: WriteOptions, subresource: str
    ) -> Record:
        if kind.resource == SERVICES:
            self.cluster_ips.assign(new, old)
        if same_but_version(old, new):
            return record
        if not options.applying:
            track_update(kind, old, new, options.field_manager, subresource)
        metadata = new["metadata"]
        if metadata.get("deletionTimestamp") and self._may_vanish(kind, new):
            # Watchers see the object go as it was; whoever took off the last finalizer sees what was asked for.
            return make_record(kind.resource, new, self._remove(record, options.dry_run).version)
        return self._store(kind, new, options.dry_run, record.version)

    def _store(self, kind: Kind, obj: Object, dry_run: bool, version: int = 0) -> Record:
        if dry_run:
            return make_record(kind.resource, obj, version or self.storage.version)
        return self.storage.put(kind.resource, obj)

    # Delete.

    async def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> tuple[Record, bool]:
        """Delete, or begin to: the record as it was last, and whether the object is gone."""
        record = self.read(kind, namespace, name)
        if kind.resource == NAMESPACES and name in IMMORTAL_NAMESPACES:
            raise forbidden(kind.plural, kind.group, name, "this namespace may not be deleted")
        self._check_preconditions(kind, record, options)
        obj = record.load()
        await self.admission.validate(Review("DELETE", kind, namespace, name, obj, options.dry_run, []), None)
        record = self.read(kind, namespace, name)
        self._check_preconditions(kind, record, options)
        obj = record.load()
        if options.propagation == "Orphan" and not options.dry_run:
            deletions.orphan_dependents(self.storage, record)
        held = obj["metadata"].get("finalizers")
        if kind.resource != NAMESPACES:
            deletions.set_foreground(self.storage, record, obj["metadata"], options)
        grace = deletions.grace_of(kind, obj, options)
        metadata = obj["metadata"]
        if grace == 0 and self._may_vanish(kind, obj, deleting=True):
            return self._remove(record, options.dry_run), True
        earlier = metadata.get("deletionGracePeriodSeconds")
        if metadata.get("deletionTimestamp") and (earlier or 0) <= grace:
            # Deletion is under way already, and not slower; only what it waits for may have changed.
            if metadata.get("finalizers") == held:
                return record, False
            return self._store(kind, obj, options.dry_run), False
        metadata["deletionTimestamp"] = deletions.moment_after(grace)
        metadata["deletionGracePeriodSeconds"] = grace
        if "generation" in metadata:
            metadata["generation"] += 1
        if kind.resource == NAMESPACES:
            metadata.pop("deletionGracePeriodSeconds")
            obj.setdefault("status", {})["phase"] = "Terminating"
        return self._store(kind, obj, options.dry_run), False

    def _check_preconditions(self, kind: Kind, record: Record, options: DeleteOptions) -> None:
        if options.uid and options.uid != record.uid:
            why = f"the UID in the precondition ({options.uid}) does not match the UID in record ({record.uid}). "
            raise conflict(
                kind.plural, kind.group, record.name, why + "The object might have been deleted and then recreated"
            )
        if options.version and options.version != str(record.version):
            why = f"the ResourceVersion in the precondition ({options.version}) does not match the ResourceVersion "
            why += f"in record ({record.version}). The object might have been modified"
            raise conflict(kind.plural, kind.group, record.name, why)

    def _may_vanish(self, kind: Kind, obj: Object, *, deleting: bool = False) -> bool:
        """Whether nothing holds a deleted object back: finalizers, a namespace's content, a pod's processes."""
        if obj["metadata"].get("finalizers"):
            return False
        if kind.resource == NAMESPACES:
            return not (obj.get("spec") or {}).get("finalizers")
        return deleting or not obj["metadata"].get("deletionGracePeriodSeconds")

    def _remove(self, record: Record, dry_run: bool) -> Record:
        if dry_run:
            return record
        return self.storage.remove(record.resource, record.namespace, record.name)

    # A namespace's own two steps.

    async def finalize_namespace(self, name: str, body: Object, options: WriteOptions) -> Record:
        """PUT /api/v1/namespaces/<name>/finalize: set spec.finalizers; the last one gone, the namespace goes."""
        kind = self.catalogue.find("", "v1", "namespaces")
        assert kind is not None
        self.check_identity(kind, body, "")
        wanted = self.decode(kind, body, options).get("spec") or {}
        record = self.read(kind, "", name)
        self._check_version(kind, {"metadata": dict(body.get("metadata") or {})}, record)
        obj = record.load()
        obj["spec"] = {key: value for key, value in wanted.items() if value}
        if obj["metadata"].get("deletionTimestamp") and self._may_vanish(kind, obj):
            return self._remove(record, options.dry_run)
        return self._store(kind, obj, options.dry_run)


def _complete_job(obj: Object) -> None:
    """A Job selects its pods by its own uid, unless it says otherwise."""
    spec = obj["spec"]
    if spec.get("manualSelector") or spec.get("selector"):
        return
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    uid, name = obj["metadata"]["uid"], obj["metadata"].get("name", "")
    labels |= {"batch.kubernetes.io/controller-uid": uid, "controller-uid": uid}
    labels |= {"batch.kubernetes.io/job-name": name, "job-name": name}
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}


__all__ = ["Registry", "StatusError", "WriteOptions", "encode", "now"]
