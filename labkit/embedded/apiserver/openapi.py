"""OpenAPI documents: what `kubectl apply` asks before it validates, what `kubectl explain` prints.

https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
Built-in kinds come from the models of the `kubernetes` package, custom ones from their definitions. A document is
made when it is first asked for, in a thread, and kept compressed. v3 has one document per group and version; v2 is
one document of everything.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

from labkit.embedded.apiserver.discovery import VERSION, subresource_kind
from labkit.embedded.apiserver.models import descriptions, model, split_type
from labkit.embedded.apiserver.openapi_protobuf import encode_document
from labkit.embedded.apiserver.resources import Catalogue, Kind
from labkit.embedded.apiserver.strategic import APPLY_ONLY_KEYS, LIST_KEYS

Object = dict[str, Any]

V2, V3 = "#/definitions/", "#/components/schemas/"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_INT_OR_STRING_FIELDS = frozenset({"port", "targetPort", "maxSurge", "maxUnavailable", "minAvailable"})
_MODEL_NAME = re.compile(r"(.*?)(V\d+(?:(?:alpha|beta)\d+)?)(.+)")
_KEPT_DOCUMENTS = 24


def schema_name(model_name: str) -> str:
    """`io.k8s.api.v1.Container` for `V1Container`; clients print the last part."""
    match = _MODEL_NAME.fullmatch(model_name)
    return f"io.k8s.api.{match[2].lower()}.{match[3]}" if match else f"io.k8s.api.{model_name}"


def custom_name(kind: Kind) -> str:
    """`io.istio.security.v1.PeerAuthentication`."""
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])


class OpenAPI:
    """The documents of a cluster's kinds as they are now."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._documents: dict[str, bytes] = {}

    def index(self) -> Object:
        """/openapi/v3: where the documents are. The hash lets a client keep what has not changed."""
        paths: Object = {}
        for group, version in self._group_versions():
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(group, version)}"}
        return {"paths": paths}

    def _group_versions(self) -> list[tuple[str, str]]:
        found = [("", "v1")]
        for group, versions in self.catalogue.groups().items():
            found += [(group, version) for version in versions]
        return found

    def _hash(self, group: str, version: str) -> str:
        kinds = [kind for kind in self.catalogue.of_group(group) if kind.version == version]
        words = [json.dumps([kind.kind, kind.subresources, kind.schema], default=str) for kind in kinds]
        return hashlib.sha256("".join([VERSION["gitVersion"], *words]).encode()).hexdigest()[:32].upper()

    async def v3(self, group: str, version: str) -> bytes | None:
        """The gzipped document of one group and version, or None."""
        kinds = [kind for kind in self.catalogue.of_group(group) if kind.version == version]
        if not kinds:
            return None
        return await self._made(f"{group}/{version}/{self._hash(group, version)}", kinds, V3)

    async def v2(self, *, protobuf: bool) -> bytes:
        """The gzipped document of everything, as JSON or as protobuf."""
        hashes = "".join(self._hash(group, version) for group, version in self._group_versions())
        key = f"v2/{protobuf}/{hashlib.sha256(hashes.encode()).hexdigest()}"
        return await self._made(key, list(self.catalogue), V2, protobuf=protobuf)

    async def _made(self, key: str, kinds: list[Kind], dialect: str, *, protobuf: bool = False) -> bytes:
        if key not in self._documents:
            made = await asyncio.to_thread(_document, kinds, dialect, protobuf=protobuf)
            while len(self._documents) >= _KEPT_DOCUMENTS:
                del self._documents[next(iter(self._documents))]
            self._documents[key] = made
        return self._documents[key]


def _document(kinds: list[Kind], dialect: str, *, protobuf: bool) -> bytes:
    schemas = Schemas(dialect)
    paths: Object = {}
    for kind in kinds:
        schemas.add_kind(kind)
        paths |= _paths_of(kind, dialect)
    for name in ("V1Status", "V1DeleteOptions", "V1Scale", "V1Eviction", "V1Binding"):
        schemas.add_model(name)
    info = {"title": "Kubernetes", "version": VERSION["gitVersion"]}
    if dialect == V3:
        body: Object = {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas.found}}
    else:
        body = {"swagger": "2.0", "info": info, "paths": paths, "definitions": schemas.found}
    if protobuf:
        return gzip.compress(encode_document(body), 5)
    return gzip.compress(json.dumps(body, separators=(",", ":")).encode(), 5)


class Schemas:
    """Collects the schemas that kinds need, each once."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.found: Object = {}

    def add_kind(self, kind: Kind) -> None:
        """The schema of a kind and of its list, marked with group, version and kind."""
        self.add_model("V1ObjectMeta")
        self.add_model("V1ListMeta")
        if kind.custom:
            name = custom_name(kind)
            self.found[name] = self._custom(kind)
        else:
            name = schema_name(kind.model)
            self.add_model(kind.model)
        marks = self.found[name].setdefault("x-kubernetes-group-version-kind", [])
        if (mark := gvk(kind)) not in marks:
            marks.append(mark)
        self.found[f"{name}List"] = {
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": self._reference("V1ListMeta"),
                "items": {"type": "array", "items": {"$ref": self.dialect + name}},
            },
            "x-kubernetes-group-version-kind": [{**gvk(kind), "kind": kind.list_name}],
        }

    def _custom(self, kind: Kind) -> Object:
        schema = json.loads(json.dumps(kind.schema or {"x-kubernetes-preserve-unknown-fields": True}))
        properties = schema.setdefault("properties", {})
        about = descriptions("V1Pod")[1]
        for key in ("apiVersion", "kind"):
            properties[key] = {"type": "string", "description": about.get(key, "")}
        properties["metadata"] = self._reference("V1ObjectMeta", "Standard object's metadata.")
        return {"type": "object", **schema}

    def _reference(self, model_name: str, description: str = "") -> Object:
        reference = {"$ref": self.dialect + schema_name(model_name)}
        if self.dialect == V2:
            return {**reference, "description": description} if description else reference
        # v3 allows nothing beside a $ref, so the description goes around it.
        return {"allOf": [reference], "default": {}} | ({"description": description} if description else {})

    def add_model(self, model_name: str) -> None:
        """The schema of a model and of all that it refers to."""
        name = schema_name(model_name)
        described = model(model_name)
        if name in self.found or described is None:
            return
        about, texts = descriptions(model_name)
        schema: Object = {"type": "object"} | ({"description": about} if about else {})
        self.found[name] = schema
        if described.required:
            schema["required"] = sorted(described.required)
        properties: Object = {}
        for key, type_name in described.fields.items():
            properties[key] = self._field(model_name, key, type_name, texts.get(key, ""))
        if properties:
            schema["properties"] = properties

    def _field(self, model_name: str, key: str, type_name: str, text: str) -> Object:
        container, inner = split_type(type_name)
        if not container:
            return self._value(key, type_name, text)
        items = self._field(model_name, "", inner, "")
        if container == "dict":
            field: Object = {"type": "object", "additionalProperties": items}
        else:
            field = {"type": "array", "items": items} | _merge_marks(model_name, key)
        return field | ({"description": text} if text else {})

    def _value(self, key: str, type_name: str, text: str) -> Object:
        described: Object = {"description": text} if text else {}
        if type_name == "object" and key in _INT_OR_STRING_FIELDS:
            either: Object = {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}
            self.found[_INT_OR_STRING] = either if self.dialect == V3 else {"type": "string", "format": "int-or-string"}
            reference = {"$ref": self.dialect + _INT_OR_STRING}
            return ({"allOf": [reference]} if self.dialect == V3 else reference) | described
        if type_name in _PRIMITIVES:
            return _PRIMITIVES[type_name] | described
        self.add_model(type_name)
        return self._reference(type_name, text)


_PRIMITIVES: dict[str, Object] = {
    "str": {"type": "string"},
    "int": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "double"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "format": "byte"},
    "datetime": {"type": "string", "format": "date-time"},
    "object": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}


def _merge_marks(model_name: str, key: str) -> Object:
    """What strategic merge patch and server-side apply must know about a list."""
    if not key:
        return {}
    keys = LIST_KEYS.get((model_name, key))
    only_apply = APPLY_ONLY_KEYS.get((model_name, key))
    if keys is None and only_apply is None:
        return {"x-kubernetes-list-type": "atomic"}
    some = keys or only_apply
    assert some is not None
    marks: Object = {"x-kubernetes-list-type": "map" if some.keys else "set"}
    if some.keys:
        marks["x-kubernetes-list-map-keys"] = list(some.keys)
    if keys is not None:
        marks["x-kubernetes-patch-strategy"] = "merge,retainKeys" if keys.retain_keys else "merge"
        if keys.merge_key:
            marks["x-kubernetes-patch-merge-key"] = keys.merge_key
    return marks


def gvk(kind: Kind) -> Object:
    """The mark that ties a schema or an operation to a kind."""
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


# Paths.

_WRITE_QUERY = ("dryRun", "fieldManager", "fieldValidation", "pretty")
_LIST_QUERY = (
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
)
_PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)


class _Paths:
    """The operations on one kind, in one dialect."""

    def __init__(self, kind: Kind, dialect: str) -> None:
        self.kind = kind
        self.dialect = dialect
        self.name = custom_name(kind) if kind.custom else schema_name(kind.model)

    def _parameter(self, name: str, where: str, kind: str = "string") -> Object:
        parameter: Object = {"name": name, "in": where} | ({"required": True} if where == "path" else {})
        kind_of: Object = {"type": kind} if self.dialect == V2 else {"schema": {"type": kind}}
        return parameter | {"uniqueItems": True} | kind_of if self.dialect == V2 else parameter | kind_of

    def _answer(self, schema: str) -> Object:
        reference = {"schema": {"$ref": self.dialect + schema}}
        ok: Object = {"description": "OK"}
        ok |= reference if self.dialect == V2 else {"content": {"application/json": reference}}
        return {"200": ok, "401": {"description": "Unauthorized"}}

    def _body(self, schema: str, media: Iterable[str]) -> Object:
        reference = {"schema": {"$ref": self.dialect + schema}}
        if self.dialect == V2:
            return {
                "parameters": [{"name": "body", "in": "body", "required": True, **reference}],
                "consumes": list(media),
            }
        return {"requestBody": {"required": True, "content": dict.fromkeys(media, reference)}}

    def operation(
        self, action: str, *, answer: str, query: list[Object], body: Object | None = None, mark: Object
    ) -> Object:
        """One operation of a path."""
        operation: Object = {"x-kubernetes-action": action, "x-kubernetes-group-version-kind": mark}
        operation |= {"operationId": "", "tags": [_tag(self.kind)], "responses": self._answer(answer)}
        body = dict(body or {})
        operation["parameters"] = query + body.pop("parameters", [])
        return operation | body

    def collect(self) -> Object:
        """All paths of the kind."""
        kind, mark, found = self.kind, gvk(self.kind), {}
        root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        scope = f"{root}/namespaces/{{namespace}}" if kind.namespaced else root
        lists = [self._parameter(name, "query", type_name) for name, type_name in _LIST_QUERY]
        writes = [self._parameter(name, "query") for name in _WRITE_QUERY]
        in_namespace = [self._parameter("namespace", "path")] if kind.namespaced else []
        json_only = ("application/json", "application/yaml")
        status, deletion = schema_name("V1Status"), schema_name("V1DeleteOptions")

        collection: Object = {"parameters": in_namespace}
        if "list" in kind.verbs:
            collection["get"] = self.operation("list", answer=f"{self.name}List", query=lists, mark=mark)
            if kind.namespaced:
                everywhere = self.operation("list", answer=f"{self.name}List", query=lists, mark=mark)
                found[f"{root}/{kind.plural}"] = {"get": everywhere, "parameters": []}
        collection["post"] = self.operation(
            "post", answer=self.name, query=writes, body=self._body(self.name, json_only), mark=mark
        )
        if "deletecollection" in kind.verbs:
            collection["delete"] = self.operation("deletecollection", answer=status, query=lists, mark=mark)
        found[f"{scope}/{kind.plural}"] = collection
        if "get" not in kind.verbs:
            return found
        item: Object = {"parameters": [*in_namespace, self._parameter("name", "path")]}
        item["get"] = self.operation("get", answer=self.name, query=[], mark=mark)
        item["put"] = self.operation(
            "put", answer=self.name, query=writes, body=self._body(self.name, json_only), mark=mark
        )
        item["patch"] = self._patch(self.name, mark)
        body = self._body(deletion, json_only)
        item["delete"] = self.operation("delete", answer=status, query=writes[:1], body=body, mark=mark)
        found[f"{scope}/{kind.plural}/{{name}}"] = item
        for name in kind.subresources:
            if name in ("status", "scale"):
                found[f"{scope}/{kind.plural}/{{name}}/{name}"] = self._subresource(name, item["parameters"], writes)
        return found

    def _patch(self, schema: str, mark: Object) -> Object:
        query = [self._parameter(name, "query") for name in _WRITE_QUERY] + [
            self._parameter("force", "query", "boolean")
        ]
        # Custom kinds have no merge keys, and kubectl sends the strategic kind to whoever offers it.
        types = _PATCH_TYPES[:-1] if self.kind.custom else _PATCH_TYPES
        return self.operation("patch", answer=schema, query=query, body=self._body(schema, types), mark=mark)

    def _subresource(self, name: str, parameters: list[Object], writes: list[Object]) -> Object:
        group, version, kind_name = subresource_kind(self.kind, name)
        mark = {"group": group, "version": version, "kind": kind_name}
        schema = schema_name("V1Scale") if name == "scale" else self.name
        return {
            "parameters": parameters,
            "get": self.operation("get", answer=schema, query=[], mark=mark),
            "put": self.operation(
                "put", answer=schema, query=writes, body=self._body(schema, ("application/json",)), mark=mark
            ),
            "patch": self._patch(schema, mark),
        }


def _paths_of(kind: Kind, dialect: str) -> Object:
    found = _Paths(kind, dialect).collect()
    for path, item in found.items():
        for verb, operation in item.items():
            if isinstance(operation, dict) and "operationId" in operation:
                words = re.findall(r"[A-Za-z0-9]+", path)
                operation["operationId"] = verb + "".join(word[:1].upper() + word[1:] for word in words)
    return found


def _tag(kind: Kind) -> str:
    return f"{(kind.group or 'core').split('.')[0]}_{kind.version}"
