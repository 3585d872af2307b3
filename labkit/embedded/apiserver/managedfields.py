"""Who set which field: `metadata.managedFields`, kept on every write, which server-side apply decides conflicts by.

https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

from typing import Any

from labkit.embedded.apiserver.fieldsets import Tree, differing, fields_of, subtract, union
from labkit.embedded.apiserver.objects import now
from labkit.embedded.apiserver.resources import Kind
from labkit.embedded.apiserver.shapes import shape_of

Object = dict[str, Any]

MAX_UPDATERS = 10  # as in Kubernetes: older ones are put together under one name
ANCIENT = "ancient-changes"


def entries_of(obj: Object) -> list[Object]:
    """The entries of an object that can be used; a client may have written anything there."""
    entries = (obj.get("metadata") or {}).get("managedFields")
    return [e for e in entries or [] if isinstance(e, dict) and isinstance(e.get("fieldsV1"), dict) and _sound(e)]


def _sound(entry: Object) -> bool:
    return _is_tree(entry["fieldsV1"]) and entry.get("operation") in ("Apply", "Update")


def _is_tree(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return all((key == "." or key[:2] in ("f:", "k:", "v:", "i:")) and _is_tree(below) for key, below in value.items())


def make_entry(kind: Kind, manager: str, operation: str, fields: Tree, subresource: str) -> Object:
    """One entry, of now."""
    entry: Object = {"manager": manager, "operation": operation, "apiVersion": kind.api_version, "time": now()}
    entry |= {"fieldsType": "FieldsV1", "fieldsV1": fields}
    return entry | ({"subresource": subresource} if subresource else {})


def store_entries(obj: Object, entries: list[Object]) -> None:
    """Write the entries that own something into the object."""
    kept = [entry for entry in entries if entry["fieldsV1"]]
    if kept:
        obj["metadata"]["managedFields"] = _few(kept)
    else:
        obj["metadata"].pop("managedFields", None)


def _few(entries: list[Object]) -> list[Object]:
    updaters = [entry for entry in entries if entry["operation"] == "Update"]
    if len(updaters) <= MAX_UPDATERS:
        return entries
    oldest = sorted(updaters, key=lambda entry: str(entry.get("time")))[: len(updaters) - MAX_UPDATERS + 1]
    fields: Tree = {}
    for entry in oldest:
        fields = union(fields, entry["fieldsV1"])
    merged = {**oldest[-1], "manager": ANCIENT, "fieldsV1": fields}
    merged.pop("subresource", None)
    return [merged, *(entry for entry in entries if not any(entry is old for old in oldest))]


def track_update(kind: Kind, old: Object | None, new: Object, manager: str, subresource: str) -> None:
    """Note in `new` that `manager` set what differs from `old`; others lose what was changed under them."""
    given = new["metadata"].get("managedFields")
    if old is None:
        fields = fields_of(new, shape_of(kind))
        store_entries(new, [make_entry(kind, manager, "Update", fields, subresource)])
        return
    if given == [{}]:
        new["metadata"].pop("managedFields", None)  # a client's way to start over
        return
    entries = entries_of(new) or entries_of(old)
    changed, gone = differing(old, new, shape_of(kind))
    if not changed and not gone:
        store_entries(new, entries)
        return
    lost = union(changed, gone)
    mine = next((e for e in entries if _is_by(e, kind, manager, "Update", subresource)), None)
    kept = []
    for entry in entries:
        if entry is mine:
            kept.append(
                make_entry(kind, manager, "Update", union(subtract(entry["fieldsV1"], gone), changed), subresource)
            )
        else:
            kept.append({**entry, "fieldsV1": subtract(entry["fieldsV1"], lost)})
    if mine is None:
        kept.append(make_entry(kind, manager, "Update", changed, subresource))
    store_entries(new, kept)


def _is_by(entry: Object, kind: Kind, manager: str, operation: str, subresource: str) -> bool:
    return (
        entry.get("manager") == manager
        and entry["operation"] == operation
        and entry.get("apiVersion") == kind.api_version
        and (entry.get("subresource") or "") == subresource
    )


def applied_by(entries: list[Object], manager: str, subresource: str) -> Object | None:
    """The entry of an earlier apply by this manager."""
    for entry in entries:
        same = entry.get("manager") == manager and (entry.get("subresource") or "") == subresource
        if same and entry["operation"] == "Apply":
            return entry
    return None
