"""CustomResourceDefinitions: what a definition must be, which kinds it makes, and decoding objects of those kinds.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
All served versions share the storage and differ in `apiVersion` alone (conversion strategy None). Rules in CEL
(`x-kubernetes-validations`) are stored and shown, but not evaluated; Istio's webhook checks the same and more.
"""

from __future__ import annotations

import re
from typing import Any

from labkit.embedded.apiserver import decoding
from labkit.embedded.apiserver.failures import Cause, invalid, not_supported, required
from labkit.embedded.apiserver.objects import now
from labkit.embedded.apiserver.patterns import compiled
from labkit.embedded.apiserver.resources import BUILTIN, Catalogue, Kind
from labkit.embedded.apiserver.schemas import check_schema, fill_defaults, prune

Object = dict[str, Any]


def kinds_of(definition: Object) -> list[Kind]:
    """The kinds that a stored definition makes, one for each served version."""
    spec = definition["spec"]
    names = spec["names"]
    kinds = []
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        subresources = version.get("subresources") or {}
        kinds.append(
            Kind(
                group=spec["group"],
                version=version["name"],
                plural=names["plural"],
                kind=names["kind"],
                namespaced=spec["scope"] == "Namespaced",
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                subresources=tuple(name for name in ("scale", "status") if subresources.get(name) is not None),
                singular=names.get("singular") or names["kind"].lower(),
                list_kind=names.get("listKind") or "",
                schema=(version.get("schema") or {}).get("openAPIV3Schema"),
                printer_columns=tuple(version.get("additionalPrinterColumns") or ()) or None,
                scale=subresources.get("scale"),
            )
        )
    return kinds


def decode(kind: Kind, obj: Object) -> tuple[Object, list[str]]:
    """The object without fields that its schema does not know, and their paths. Raises WrongType for metadata."""
    metadata, unknown = decoding.decode_builtin(obj.get("metadata") or {}, "V1ObjectMeta")
    unknown = [f"metadata.{path}" for path in unknown]
    rest = {key: value for key, value in obj.items() if key != "metadata"}
    if kind.schema is not None:
        kept = {key: rest.pop(key) for key in ("apiVersion", "kind") if key in rest}
        rest = kept | prune(kind.schema, rest, "", unknown)
    return {**rest, "metadata": metadata}, unknown


def apply_defaults(kind: Kind, obj: Object) -> None:
    """The schema's own defaults."""
    if kind.schema is not None:
        fill_defaults(kind.schema, obj)


def validate(kind: Kind, obj: Object) -> list[Cause]:
    """What the schema has against the object."""
    if kind.schema is None:
        return []
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "apiVersion", "kind")}
    schema = {**kind.schema}
    wanted = [name for name in schema.get("required") or [] if name not in ("metadata", "apiVersion", "kind")]
    return check_schema(schema | {"required": wanted}, rest, "")


def complete_definition(obj: Object, old: Object | None) -> None:
    """The status of a definition: accepted at once, because nothing can compete with it here."""
    spec = obj.get("spec") or {}
    names = {key: value for key, value in (spec.get("names") or {}).items() if value}
    before = (old or {}).get("status") or {}
    stored = list(before.get("storedVersions") or [])
    for version in spec.get("versions") or []:
        if isinstance(version, dict) and version.get("storage") and version.get("name") not in stored:
            stored.append(version.get("name"))
    conditions = before.get("conditions") or [
        {
            "type": "NamesAccepted",
            "status": "True",
            "lastTransitionTime": now(),
            "reason": "NoConflicts",
            "message": "no conflicts found",
        },
        {
            "type": "Established",
            "status": "True",
            "lastTransitionTime": now(),
            "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted",
        },
    ]
    obj["status"] = {"conditions": conditions, "acceptedNames": names, "storedVersions": stored}


_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def validate_definition(obj: Object, catalogue: Catalogue) -> list[Cause]:
    """What makes a definition unusable."""
    spec, causes = obj.get("spec") or {}, []
    names = spec.get("names") or {}
    group, plural = spec.get("group") or "", names.get("plural") or ""
    if not group:
        causes.append(required("spec.group"))
    for field in ("plural", "kind"):
        if not names.get(field):
            causes.append(required(f"spec.names.{field}"))
    if plural and not _LABEL.fullmatch(plural):
        causes.append(
            invalid(
                "spec.names.plural",
                plural,
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-'",
            )
        )
    wanted = f"{plural}.{group}"
    if obj["metadata"].get("name") != wanted:
        causes.append(invalid("metadata.name", obj["metadata"].get("name"), 'must be spec.names.plural+"."+spec.group'))
    if group and "." not in group:
        causes.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    if any(kind.group == group for kind in BUILTIN):
        causes.append(invalid("spec.group", group, "is a group of the API server itself"))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        cause = required("spec.scope") if not spec.get("scope") else None
        causes.append(cause or not_supported("spec.scope", spec.get("scope"), ("Cluster", "Namespaced")))
    causes += _versions(spec.get("versions") or [])
    causes += _rivals(obj, catalogue, group, names)
    return causes


def _versions(versions: list[Object]) -> list[Cause]:
    if not versions:
        return [required("spec.versions", "must have at least one version")]
    causes = []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        names = [version.get("name") for version in versions]
        causes.append(invalid("spec.versions", names, "must have exactly one version marked as storage version"))
    for i, version in enumerate(versions):
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        where = f"spec.versions[{i}].schema.openAPIV3Schema"
        if not _LABEL.fullmatch(version.get("name") or ""):
            causes.append(invalid(f"spec.versions[{i}].name", version.get("name"), "must be a DNS-1035 label"))
        if schema is None:
            causes.append(required(where, "schemas are required"))
        elif schema.get("type") != "object":
            cause = required(f"{where}.type", "must not be empty at the root") if not schema.get("type") else None
            causes.append(cause or invalid(f"{where}.type", schema.get("type"), "must be object at the root"))
        else:
            decode_nested(schema, where)
            causes += _patterns(schema, where)
    return causes


def decode_nested(schema: Any, path: str) -> None:
    """Decode, in place, schemas below `items` and others that the model leaves open. Raises WrongType."""
    if not isinstance(schema, dict):
        return
    for key in ("items", "additionalProperties", "not"):
        inner = schema.get(key)
        if isinstance(inner, dict):
            schema[key], _ = decoding.decode_builtin(inner, "V1JSONSchemaProps")
        elif inner is not None and not (key == "additionalProperties" and isinstance(inner, bool)):
            raise decoding.WrongType(f"{path}.{key}: must be a schema object")
        decode_nested(schema.get(key), f"{path}.{key}")
    for key in ("properties", "patternProperties", "definitions"):
        for name, inner in (schema.get(key) or {}).items():
            decode_nested(inner, f"{path}.{key}[{name}]")
    for key in ("allOf", "anyOf", "oneOf"):
        for i, inner in enumerate(schema.get(key) or []):
            decode_nested(inner, f"{path}.{key}[{i}]")


def _patterns(schema: Any, path: str) -> list[Cause]:
    """Patterns that cannot be compiled would fail on every object; say so now."""
    causes: list[Cause] = []
    if isinstance(schema, dict):
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            try:
                compiled(pattern)
            except re.error as error:
                causes.append(
                    invalid(f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {error}")
                )
        for key, value in schema.items():
            if key not in ("default", "example", "enum"):
                causes += _patterns(value, f"{path}.{key}")
    elif isinstance(schema, list):
        for i, item in enumerate(schema):
            causes += _patterns(item, f"{path}[{i}]")
    return causes


def _rivals(obj: Object, catalogue: Catalogue, group: str, names: Object) -> list[Cause]:
    for kind in catalogue.of_group(group):
        if kind.custom and kind.kind == names.get("kind") and kind.plural != names.get("plural"):
            return [invalid("spec.names.kind", kind.kind, f"is already in use by {kind.qualified}")]
    return []
