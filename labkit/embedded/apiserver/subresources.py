"""Subresources other than `status`: scale, binding, eviction, finalize; streams go to the node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from labkit.embedded.apiserver import patches
from labkit.embedded.apiserver.bodies import read_body
from labkit.embedded.apiserver.decoding import parse_body
from labkit.embedded.apiserver.deletions import DeleteOptions
from labkit.embedded.apiserver.failures import (
    StatusError,
    bad_request,
    conflict,
    invalid,
    invalid_object,
    method_not_allowed,
    unsupported_media_type,
)
from labkit.embedded.apiserver.objects import now
from labkit.embedded.apiserver.proxying import Proxy
from labkit.embedded.apiserver.registry import Registry, WriteOptions
from labkit.embedded.apiserver.requests import Target
from labkit.embedded.apiserver.resources import Kind
from labkit.embedded.apiserver.selectors import selector_test
from labkit.embedded.apiserver.storage import Record, encode
from labkit.embedded.apiserver.streams import Streams

Object = dict[str, Any]


def _answer(obj: Object, status: int = 200) -> web.Response:
    return web.Response(body=encode(obj), status=status, content_type="application/json")


# Our names of streams, and the kubelet's.
_STREAMS = {"exec": "exec", "attach": "attach", "portforward": "portForward"}
SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


class Subresources:
    """What the subresources do."""

    def __init__(self, registry: Registry, streams: Streams, proxy: Proxy, token: str) -> None:
        self.registry = registry
        self.token = token
        self.streams = streams
        self.proxy = proxy

    async def handle(
        self, request: web.Request, kind: Kind, target: Target, options: WriteOptions
    ) -> web.StreamResponse:
        """Answer a request on a subresource."""
        if target.subresource == "proxy":
            return await self.proxy.handle(request, kind, target)
        if target.subresource == "log":
            if request.method != "GET":
                raise method_not_allowed()
            return await self.streams.logs(request, target.namespace, target.name)
        if verb := _STREAMS.get(target.subresource):
            return await self.streams.upgrade(request, verb, target.namespace, target.name)
        if target.subresource == "scale":
            return await self._scale(request, kind, target, options)
        if request.method not in ("POST", "PUT"):
            raise method_not_allowed()
        body = parse_body(await read_body(request), request.headers.get("Content-Type", ""))
        if not isinstance(body, dict):
            raise bad_request("the object provided is unrecognized (must be of type object)")
        if target.subresource == "binding":
            return await self.bind(target.namespace, target.name, body, options)
        if target.subresource == "token":
            return self._token(kind, target, body)
        if target.subresource == "eviction":
            return await self._evict(kind, target, body, options)
        if target.subresource == "finalize":
            record = await self.registry.finalize_namespace(target.name, body, options)
            return web.Response(body=record.body, content_type="application/json")
        raise method_not_allowed()

    async def bind(self, namespace: str, name: str, body: Object, options: WriteOptions) -> web.Response:
        """Give a pod its node."""
        node = (body.get("target") or {}).get("name") if isinstance(body.get("target"), dict) else None
        if not isinstance(node, str) or not node:
            raise invalid_object("Binding", "", name, [invalid("target.name", node, "a binding names a node")])
        kind = self.registry.catalogue.find("", "v1", "pods")
        assert kind is not None

        def change(pod: Object) -> Object:
            bound = pod["spec"].get("nodeName")
            if bound:
                why = f'pod {name} is already assigned to node "{bound}"'
                raise conflict("pods/binding", "", name, why)
            pod["spec"]["nodeName"] = node
            return pod

        await self.registry.update(kind, namespace, name, change, options)
        return _answer(SUCCESS | {"code": 201}, 201)

    def _token(self, kind: Kind, target: Target, body: Object) -> web.Response:
        """A TokenRequest. The cluster has one user, so every service account's token is that user's."""
        self.registry.read(kind, target.namespace, target.name)
        spec = body.get("spec") if isinstance(body.get("spec"), dict) else {}
        expires = datetime.now(UTC) + timedelta(hours=1)
        status = {"token": self.token, "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
        metadata = {"name": target.name, "namespace": target.namespace, "creationTimestamp": now()}
        answer: Object = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": metadata}
        return _answer(answer | {"spec": spec, "status": status}, 201)

    async def _evict(self, kind: Kind, target: Target, body: Object, options: WriteOptions) -> web.Response:
        pod = self.registry.read(kind, target.namespace, target.name)
        self._check_budgets(pod)
        wanted = body.get("deleteOptions") or {}
        grace = wanted.get("gracePeriodSeconds") if isinstance(wanted, dict) else None
        if grace is not None and (isinstance(grace, bool) or not isinstance(grace, int) or abs(grace) > 2**40):
            raise bad_request("deleteOptions.gracePeriodSeconds: Invalid value")
        deletion = DeleteOptions(dry_run=options.dry_run, grace=grace)
        await self.registry.delete(kind, target.namespace, target.name, deletion)
        return _answer(SUCCESS | {"code": 201}, 201)

    def _check_budgets(self, pod: Record) -> None:
        for record in self.registry.storage.records("policy/poddisruptionbudgets", pod.namespace):
            budget = record.load()
            selected = selector_test((budget.get("spec") or {}).get("selector"))(pod.labels)
            if selected and (budget.get("status") or {}).get("disruptionsAllowed", 1) <= 0:
                raise StatusError(
                    429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget."
                )

    # Scale.

    async def _scale(self, request: web.Request, kind: Kind, target: Target, options: WriteOptions) -> web.Response:
        if request.method in ("GET", "HEAD"):
            return _answer(_scale_of(kind, self.registry.read(kind, target.namespace, target.name).load()))
        media = request.headers.get("Content-Type", "").split(";")[0].strip()
        body = parse_body(await read_body(request), media)
        if request.method == "PATCH" and media not in (
            patches.MERGE_PATCH,
            patches.JSON_PATCH,
            patches.STRATEGIC_PATCH,
        ):
            raise unsupported_media_type(patches.PATCH_TYPES)

        def change(obj: Object) -> Object:
            scale = _scale_of(kind, obj)
            if request.method == "PATCH":
                flat = patches.JSON_PATCH if media == patches.JSON_PATCH else patches.MERGE_PATCH
                wanted = patches.apply_patch(kind, flat, scale, body)
            elif request.method == "PUT" and isinstance(body, dict):
                wanted = body
            else:
                raise method_not_allowed()
            return _scaled(kind, obj, wanted)

        record = await self.registry.update(kind, target.namespace, target.name, change, options)
        return _answer(_scale_of(kind, record.load()))


def _replicas_path(kind: Kind, key: str, default: str) -> list[str]:
    return str((kind.scale or {}).get(key) or default).strip(".").split(".")


def _dig(obj: Any, path: list[str]) -> Any:
    for step in path:
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj


def _scale_of(kind: Kind, obj: Object) -> Object:
    """The Scale that stands for an object."""
    keys = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = _dig(obj, _replicas_path(kind, "labelSelectorPath", ".spec.selector"))
    status: Object = {"replicas": _dig(obj, _replicas_path(kind, "statusReplicasPath", ".status.replicas")) or 0}
    if isinstance(selector, str):
        status["selector"] = selector
    elif isinstance(selector, dict):
        labels = selector.get("matchLabels") if "matchLabels" in selector else selector
        if isinstance(labels, dict):
            status["selector"] = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: obj["metadata"][key] for key in keys if key in obj["metadata"]},
        "spec": {"replicas": _dig(obj, _replicas_path(kind, "specReplicasPath", ".spec.replicas")) or 0},
        "status": status,
    }


def _scaled(kind: Kind, obj: Object, scale: Object) -> Object:
    """The object with the replicas of a Scale."""
    replicas = _dig(scale, ["spec", "replicas"]) or 0
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise bad_request('Scale in version "v1" cannot be handled as a Scale: spec.replicas must be a number')
    name = obj["metadata"]["name"]
    if replicas < 0:
        cause = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid_object("Scale", "autoscaling", name, [cause])
    *steps, last = _replicas_path(kind, "specReplicasPath", ".spec.replicas")
    holder = obj
    for step in steps:
        holder = holder.setdefault(step, {})
    holder[last] = replicas
    if version := _dig(scale, ["metadata", "resourceVersion"]):
        obj["metadata"]["resourceVersion"] = version
    return obj
