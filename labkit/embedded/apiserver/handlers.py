"""From an HTTP request on a resource to the registry and back: verbs, options, formats, streams of changes."""

from __future__ import annotations

import random
from typing import Any

from aiohttp import web

from labkit.embedded.apiserver import apply, ephemeral, patches, tables
from labkit.embedded.apiserver.bodies import read_body
from labkit.embedded.apiserver.decoding import parse_body
from labkit.embedded.apiserver.deletions import DeleteOptions
from labkit.embedded.apiserver.failures import (
    Cause,
    StatusError,
    bad_request,
    expired,
    invalid_object,
    method_not_allowed,
    no_such_path,
    not_found,
    unsupported_media_type,
)
from labkit.embedded.apiserver.listing import check_list_options, integer, page, version_in
from labkit.embedded.apiserver.registry import Change, Registry, WriteOptions
from labkit.embedded.apiserver.requests import Accepted, Target, is_true, parse_accept
from labkit.embedded.apiserver.resources import Kind
from labkit.embedded.apiserver.reviews import answer_review
from labkit.embedded.apiserver.selectors import parse_fields, parse_labels
from labkit.embedded.apiserver.storage import Record, encode
from labkit.embedded.apiserver.subresources import Subresources
from labkit.embedded.apiserver.watching import View, Watch, error_line, event_line

Object = dict[str, Any]

# A watch without a time of its own ends after half an hour to an hour, spread so that not all end at once.
WATCH_SECONDS = (1800.0, 3600.0)


def json_answer(body: bytes, status: int = 200, warnings: list[str] | None = None) -> web.Response:
    """A JSON response, with one `Warning` header for each warning."""
    response = web.Response(body=body, status=status, content_type="application/json")
    for text in dict.fromkeys(warnings or ()):
        quoted = " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')[:4096]
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


class Handlers:
    """The verbs on collections and objects."""

    def __init__(self, registry: Registry, subresources: Subresources) -> None:
        self.registry = registry
        self.storage = registry.storage
        self.subresources = subresources
        self._watches: set[Watch] = set()

    def end_watches(self, resource: str | None = None) -> None:
        """End the watches of a resource, or all."""
        for watch in list(self._watches):
            if resource in (None, watch.view.kind.resource):
                watch.close()

    async def handle(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer a request on a resource URL."""
        kind = self.registry.catalogue.find(target.group, target.version, target.plural)
        if kind is None:
            raise no_such_path()
        if (target.namespace and not kind.namespaced) or target.namespace == "":
            self._check_scope(kind, target, request.method)
        if target.subresource:
            return await self._subresource(request, kind, target)
        if request.method == "GET" or request.method == "HEAD":
            return await self._get(request, kind, target)
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch"}
        verbs["DELETE"] = "delete" if target.name else "deletecollection"
        verb = verbs.get(request.method, "")
        if verb not in kind.verbs or (
            (verb == "create") == bool(target.name) and verb not in ("delete", "deletecollection")
        ):
            raise method_not_allowed()
        method = getattr(self, f"_{verb}")
        response: web.StreamResponse = await method(request, kind, target)
        return response

    def _check_scope(self, kind: Kind, target: Target, method: str) -> None:
        if target.namespace and not kind.namespaced:
            raise no_such_path()
        if kind.namespaced and (target.name or method not in ("GET", "HEAD", "DELETE")):
            raise no_such_path()  # an object of a namespaced kind is only found in its namespace

    # Reading.

    async def _get(self, request: web.Request, kind: Kind, target: Target) -> web.StreamResponse:
        if "get" not in kind.verbs:
            raise method_not_allowed()
        accepted = parse_accept(request.headers.get("Accept", ""))
        if target.name and not is_true(request.query.get("watch")):
            record = self.registry.read(kind, target.namespace, target.name)
            return json_answer(self._one(kind, record, accepted, request))
        version = version_in(request.query)
        check_list_options(request.query)
        view = self._view(request, kind, target, accepted)
        if is_true(request.query.get("watch")):
            return await self._watch(request, view, version or 0)
        return json_answer(self._list(request, view, accepted, version))

    def _one(self, kind: Kind, record: Record, accepted: Accepted, request: web.Request) -> bytes:
        if accepted.metadata_only:
            return encode(tables.metadata_only(record.load()))
        if accepted.table:
            columns, row = tables.layout(kind)
            rows = [tables.table_row(row, self._load(kind, record), request.query.get("includeObject", "Metadata"))]
            return encode(tables.make_table(columns, rows, {"resourceVersion": str(record.version)}))
        return record.rendered(kind.api_version)

    def _load(self, kind: Kind, record: Record) -> Object:
        return record.load() | {"apiVersion": kind.api_version}

    def _view(self, request: web.Request, kind: Kind, target: Target, accepted: Accepted) -> View:
        """What the query's selectors let through, and in which form."""
        labels = parse_labels(request.query.get("labelSelector", ""))
        field_text = request.query.get("fieldSelector", "")
        if target.name:
            field_text = f"metadata.name={target.name}"
        fields = parse_fields(field_text, kind.resource) if field_text else None

        def matches(record: Record) -> bool:
            return labels(record.labels) and (fields is None or fields(record.load()))

        return View(kind, target.namespace, matches, self._renderer(request, kind, accepted))

    def _renderer(self, request: web.Request, kind: Kind, accepted: Accepted) -> Any:
        if accepted.metadata_only:
            return lambda record: encode(tables.metadata_only(record.load()))
        if not accepted.table:
            return lambda record: record.rendered(kind.api_version)
        columns, row = tables.layout(kind)
        include = request.query.get("includeObject", "Metadata")
        sent = False

        def render(record: Record) -> bytes:
            nonlocal sent
            shown, sent = ([] if sent else columns), True  # a stream names its columns once
            rows = [tables.table_row(row, self._load(kind, record), include)]
            return encode(tables.make_table(shown, rows, {"resourceVersion": str(record.version)}))

        return render

    def _list(self, request: web.Request, view: View, accepted: Accepted, version: int | None) -> bytes:
        kind = view.kind
        metadata: Object = {}
        records = page(self.storage, request.query, view, version, metadata)
        if accepted.table:
            columns, row = tables.layout(kind)
            include = request.query.get("includeObject", "Metadata")
            rows = [tables.table_row(row, self._load(kind, record), include) for record in records]
            return encode(tables.make_table(columns, rows, metadata))
        name, api_version = (
            ("PartialObjectMetadataList", "meta.k8s.io/v1")
            if accepted.metadata_only
            else (kind.list_name, kind.api_version)
        )
        head = encode({"kind": name, "apiVersion": api_version, "metadata": metadata})
        return head[:-1] + b',"items":[' + b",".join(map(view.render, records)) + b"]}"

    # Watching.

    async def _watch(self, request: web.Request, view: View, version: int) -> web.StreamResponse:
        query = request.query
        if version > self.storage.version:
            # A version of the future: the client talked to another cluster of this name, or to one since reset.
            raise expired(f"Too large resource version: {version}, current: {self.storage.version}")
        initial = is_true(query.get("sendInitialEvents"))
        bookmarks = is_true(query.get("allowWatchBookmarks"))
        seconds = integer(query, "timeoutSeconds") or random.uniform(*WATCH_SECONDS)  # noqa: S311
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        try:
            watch = Watch(
                self.storage,
                view,
                None if initial or not version else version,
                initial=initial and bookmarks,
                bookmarks=bookmarks,
            )
        except StatusError as failure:
            # As in Kubernetes, a version that is too old is told inside the stream.
            await response.prepare(request)
            await response.write(error_line(failure))
            return response
        self._watches.add(watch)
        if request.transport:
            watch.on_overrun = request.transport.abort
        try:
            await response.prepare(request)
            async for block in watch.lines(seconds):
                await response.write(block)
        except (ConnectionResetError, BrokenPipeError):
            pass
        finally:
            self._watches.discard(watch)
            watch.close()
        return response

    # Writing.

    async def _body(self, request: web.Request) -> Any:
        return parse_body(await read_body(request), request.headers.get("Content-Type", ""))

    def _write_options(self, request: web.Request) -> WriteOptions:
        query = request.query
        dry_run = query.getall("dryRun", [])
        if any(value not in ("", "All") for value in dry_run):
            raise bad_request('dryRun: Unsupported value: supported values: "All"')
        validation = query.get("fieldValidation", "Warn") or "Warn"
        if validation not in ("Ignore", "Warn", "Strict"):
            raise bad_request(
                f'fieldValidation: Unsupported value: "{validation}": supported values: "Ignore", "Strict", "Warn"'
            )
        manager = query.get("fieldManager") or request.headers.get("User-Agent", "unknown").split("/")[0]
        return WriteOptions(any(dry_run), validation, manager[:128] or "unknown")

    async def _create(self, request: web.Request, kind: Kind, target: Target) -> web.Response:
        options = self._write_options(request)
        body = await self._body(request)
        if kind.verbs == ("create",):
            return await self._create_virtual(kind, target, body, options)
        record = await self.registry.create(kind, target.namespace, body, options)
        return self._written(request, kind, record, 201, options)

    async def _create_virtual(self, kind: Kind, target: Target, body: Any, options: WriteOptions) -> web.Response:
        """Kinds that are questions or orders, and are not stored."""
        if not isinstance(body, dict):
            raise bad_request("the object provided is unrecognized (must be of type object)")
        body = self.registry.decode(kind, body, options)
        if kind.plural == "bindings":
            name = (body.get("metadata") or {}).get("name") or ""
            return await self.subresources.bind(target.namespace, name, body, options)
        return json_answer(encode(answer_review(kind, body)), 201)

    def _written(
        self, request: web.Request, kind: Kind, record: Record, status: int, options: WriteOptions
    ) -> web.Response:
        accepted = parse_accept(request.headers.get("Accept", ""))
        return json_answer(self._one(kind, record, accepted, request), status, options.warnings)

    async def _update(self, request: web.Request, kind: Kind, target: Target) -> web.Response:
        options = self._write_options(request)
        body = await self._body(request)
        if not isinstance(body, dict):
            raise bad_request("the object provided is unrecognized (must be of type object)")
        record = await self.registry.update(
            kind, target.namespace, target.name, lambda _: _replacement(kind, body), options, target.subresource
        )
        return self._written(request, kind, record, 200, options)

    async def _patch(self, request: web.Request, kind: Kind, target: Target) -> web.Response:
        options = self._write_options(request)
        media = request.headers.get("Content-Type", "").split(";")[0].strip()
        accepted = patches.types_for(kind)
        if media not in accepted:
            raise unsupported_media_type(accepted)
        body = parse_body(await read_body(request), media)
        if media == patches.APPLY_PATCH:
            return await self._apply(request, kind, target, body, options)

        def change(obj: Object) -> Object:
            version = obj["metadata"]["resourceVersion"]
            patched = patches.apply_patch(kind, media, obj, body)
            metadata = patched.get("metadata")
            if isinstance(metadata, dict) and metadata.get("resourceVersion") == version:
                del metadata["resourceVersion"]  # names no version that the patch itself did not
            return patched

        record = await self.registry.update(kind, target.namespace, target.name, change, options, target.subresource)
        return self._written(request, kind, record, 200, options)

    async def _apply(
        self, request: web.Request, kind: Kind, target: Target, body: Any, options: WriteOptions
    ) -> web.Response:
        if not request.query.get("fieldManager"):
            raise bad_request(
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
            )
        record, created = await apply.apply_object(
            self.registry,
            kind,
            target,
            body,
            options,
            force=is_true(request.query.get("force")),
        )
        return self._written(request, kind, record, 201 if created else 200, options)

    # Deleting.

    async def _delete_options(self, request: web.Request) -> DeleteOptions:
        raw = await read_body(request)
        body = parse_body(raw, request.headers.get("Content-Type", "")) if raw.strip() else {}
        if not isinstance(body, dict):
            raise bad_request("DeleteOptions must be an object")
        query = request.query
        preconditions = body.get("preconditions") or {}
        grace = body.get("gracePeriodSeconds", integer(query, "gracePeriodSeconds"))
        if grace is not None and (isinstance(grace, bool) or not isinstance(grace, int) or abs(grace) > 2**40):
            raise bad_request("gracePeriodSeconds: Invalid value")
        propagation = body.get("propagationPolicy") or query.get("propagationPolicy") or ""
        if body.get("orphanDependents") or is_true(query.get("orphanDependents")):
            propagation = "Orphan"
        if propagation not in ("", "Background", "Foreground", "Orphan"):
            raise bad_request(
                f'propagationPolicy: Unsupported value: "{propagation}": '
                'supported values: "Background", "Foreground", "Orphan"'
            )
        if not isinstance(preconditions, dict):
            raise bad_request("preconditions: Invalid value")
        dry_run = bool(body.get("dryRun") or query.getall("dryRun", []))
        uid, version = preconditions.get("uid") or "", preconditions.get("resourceVersion") or ""
        return DeleteOptions(dry_run, grace, propagation, str(uid), str(version))

    async def _delete(self, request: web.Request, kind: Kind, target: Target) -> web.Response:
        options = await self._delete_options(request)
        record, gone = await self.registry.delete(kind, target.namespace, target.name, options)
        if not gone or kind.resource in ("/pods", "/services", "/namespaces"):
            return json_answer(record.rendered(kind.api_version), 200)
        details: Object = {"name": record.name, "kind": kind.plural, "uid": record.uid}
        if kind.group:
            details["group"] = kind.group
        return json_answer(
            encode({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
        )

    async def _deletecollection(self, request: web.Request, kind: Kind, target: Target) -> web.Response:
        options = await self._delete_options(request)
        view = self._view(request, kind, target, Accepted(False, False, ""))
        deleted = []
        for record in self.storage.records(kind.resource, target.namespace):
            if not view.matches(record):
                continue
            try:
                last, _ = await self.registry.delete(kind, record.namespace, record.name, options)
                deleted.append(last)
            except StatusError as failure:
                if failure.code != 404:
                    raise
        head = encode(
            {
                "kind": kind.list_name,
                "apiVersion": kind.api_version,
                "metadata": {"resourceVersion": str(self.storage.version)},
            }
        )
        return json_answer(head[:-1] + b',"items":[' + b",".join(r.rendered(kind.api_version) for r in deleted) + b"]}")

    # Subresources.

    async def _subresource(self, request: web.Request, kind: Kind, target: Target) -> web.StreamResponse:
        if target.subresource not in kind.subresources and not (target.subresource == "status" and kind.has_status):
            raise no_such_path()
        if target.subresource in ("status", ephemeral.SUBRESOURCE):
            if request.method in ("GET", "HEAD"):
                accepted = parse_accept(request.headers.get("Accept", ""))
                record = self.registry.read(kind, target.namespace, target.name)
                return json_answer(self._one(kind, record, accepted, request))
            if request.method == "PUT":
                return await self._update(request, kind, target)
            if request.method == "PATCH":
                return await self._patch(request, kind, target)
            raise method_not_allowed()
        # The query of a proxied request is for whoever is behind the proxy.
        options = WriteOptions() if target.subresource == "proxy" else self._write_options(request)
        return await self.subresources.handle(request, kind, target, options)


# Kinds of which an update has to say which version it is of (AllowUnconditionalUpdate in Kubernetes' strategies).
_CONDITIONAL = frozenset(
    {
        "/serviceaccounts",
        "admissionregistration.k8s.io/mutatingwebhookconfigurations",
        "admissionregistration.k8s.io/validatingwebhookconfigurations",
        "apiextensions.k8s.io/customresourcedefinitions",
        "coordination.k8s.io/leases",
        "policy/poddisruptionbudgets",
    }
)


def _replacement(kind: Kind, body: Object) -> Object:
    """What a client puts in the place of an object. Raises 422 where it has to name the version that it replaces."""
    replacement = _with_metadata(body)
    if (kind.custom or kind.resource in _CONDITIONAL) and not replacement["metadata"].get("resourceVersion"):
        cause = Cause(
            "metadata.resourceVersion", "FieldValueInvalid", "Invalid value: 0x0: must be specified for an update"
        )
        raise invalid_object(kind.kind, kind.group, str(replacement["metadata"].get("name", "")), [cause])
    return replacement


def _with_metadata(body: Object) -> Object:
    """A copy of a client's object that the registry may change, with metadata to change."""
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise bad_request("json: cannot unmarshal into Go struct field .metadata of type v1.ObjectMeta")
    return {**body, "metadata": dict(metadata or {})}


__all__ = ["Change", "Handlers", "event_line", "json_answer", "not_found"]
