"""Server-side apply: merge what a manager wants into what is there, and refuse to take fields from others unasked.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
A manager owns what it applied last. What it no longer names, and nobody else owns, is removed. Setting another's
field to another value is a conflict, unless forced; setting it to the same value is to share it.
"""

from __future__ import annotations

import json
from typing import Any

from labkit.embedded.apiserver.failures import StatusError, bad_request
from labkit.embedded.apiserver.fieldsets import (
    Path,
    Tree,
    contains,
    fields_of,
    item_key,
    owner_of,
    paths_of,
    shown,
    subtract,
    value_key,
)
from labkit.embedded.apiserver.managedfields import applied_by, entries_of, make_entry, store_entries
from labkit.embedded.apiserver.registry import Registry, WriteOptions
from labkit.embedded.apiserver.requests import Target
from labkit.embedded.apiserver.resources import Kind
from labkit.embedded.apiserver.shapes import Shape, shape_of
from labkit.embedded.apiserver.storage import Record
from labkit.embedded.apiserver.strategic import united

Object = dict[str, Any]


async def apply_object(
    registry: Registry, kind: Kind, target: Target, body: Any, options: WriteOptions, *, force: bool
) -> tuple[Record, bool]:
    """Create the object or merge into it; the record, and whether it was created. Raises 409 for conflicts."""
    config = _config(registry, kind, target, body, options)
    manager = options.field_manager

    def change(live: Object) -> Object:
        return _applied(kind, live, config, manager, target.subresource, force=force)

    options.applying = True
    while True:
        try:
            record = await registry.update(kind, target.namespace, target.name, change, options, target.subresource)
            return record, False
        except StatusError as failure:
            if failure.code != 404 or target.subresource or _names_version(body):
                raise
        obj = json.loads(json.dumps(config))
        store_entries(obj, [make_entry(kind, manager, "Apply", fields_of(obj, shape_of(kind)), "")])
        try:
            return await registry.create(kind, target.namespace, obj, options), True
        except StatusError as failure:
            if failure.code != 409:  # somebody created it in between: then merge
                raise


def _names_version(body: Object) -> bool:
    return bool((body.get("metadata") or {}).get("resourceVersion"))


def _config(registry: Registry, kind: Kind, target: Target, body: Any, options: WriteOptions) -> Object:
    """What the client wants, in the kind's shape. Raises 400."""
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type object)")
    registry.check_identity(kind, body, target.namespace)
    metadata = body.get("metadata") or {}
    if metadata.get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    name = metadata.get("name") or target.name
    if name != target.name:
        raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({target.name})")
    config = registry.decode(kind, body, options)
    version = (body.get("metadata") or {}).get("resourceVersion")
    config["metadata"] = {**(config.get("metadata") or {}), "name": target.name}
    config["metadata"].pop("resourceVersion", None)
    return config | ({"metadata": config["metadata"] | {"resourceVersion": version}} if version else {})


def _applied(kind: Kind, live: Object, config: Object, manager: str, subresource: str, *, force: bool) -> Object:
    """The live object with the configuration merged in, and `managedFields` telling so."""
    shape = shape_of(kind)
    wanted = fields_of(config, shape)
    entries = entries_of(live)
    mine = applied_by(entries, manager, subresource)
    others = [entry for entry in entries if entry is not mine]
    contested = _conflicts(live, config, wanted, others, shape)
    if contested and not force:
        raise _conflict(contested)
    for entry, paths in contested:
        taken: Tree = {}
        for path in paths:
            _insert(taken, path)
        others[others.index(entry)] = {**entry, "fieldsV1": subtract(entry["fieldsV1"], taken)}
    merged: Object = _merge(live, config, shape)
    if mine:
        _drop_abandoned(merged, mine["fieldsV1"], wanted, others, shape)
    if version := config["metadata"].get("resourceVersion"):
        merged["metadata"]["resourceVersion"] = version
    else:
        merged["metadata"].pop("resourceVersion", None)
    if mine and mine["fieldsV1"] == wanted and mine.get("apiVersion") == kind.api_version:
        entry = mine
    else:
        entry = make_entry(kind, manager, "Apply", wanted, subresource)
    place = entries.index(mine) if mine else 0
    others.insert(place, entry)
    store_entries(merged, others)
    return merged


# Conflicts.

Contested = list[tuple[Object, list[Path]]]


def _conflicts(live: Object, config: Object, wanted: Tree, others: list[Object], shape: Shape) -> Contested:
    contested: Contested = []
    finder = Finder()
    for entry in others:
        paths = []
        for path in paths_of(wanted):
            if not owner_of(entry["fieldsV1"], path) or path[-1][0] != "f":
                continue
            there, here = finder.find(live, path, shape), finder.find(config, path, shape)
            if there is None or here is None or there[0] == here[0] or _is_parent(here[0], path, wanted):
                continue
            if here[0] in ({}, []) and _merge(there[0], here[0], there[1]) == there[0]:
                continue  # an empty map or list adds nothing to what is there
            paths.append(path)
        if paths:
            contested.append((entry, paths))
    return contested


def _is_parent(value: Any, path: Path, wanted: Tree) -> bool:
    """Whether the field is only the holder of others, which are compared one by one."""
    node = wanted
    for step in path:
        node = node[step]
    return bool(node) and isinstance(value, dict | list)


def _conflict(contested: Contested) -> StatusError:
    causes, lines = [], []
    count = sum(len(paths) for _, paths in contested)
    for entry, paths in contested:
        who = f'"{entry.get("manager")}"'
        if entry.get("subresource"):
            who += f' with subresource "{entry["subresource"]}"'
        if entry["operation"] == "Update":
            who += f" using {entry.get('apiVersion')}"
        for path in paths:
            causes.append({"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": shown(path)})
        fields = [shown(path) for path in paths]
        many = f"conflicts with {who}:\n" + "\n".join(f"- {field}" for field in fields)
        lines.append(f"conflict with {who}: {fields[0]}" if len(fields) == 1 else many)
    word = "conflict" if count == 1 else "conflicts"
    message = f"Apply failed with {count} {word}: " + "\n".join(lines)
    return StatusError(409, "Conflict", message, {"causes": causes})


# Finding, merging, dropping.


class Finder:
    """Follows paths through objects that keep their lists. A list is indexed once, or long ones would take hours."""

    def __init__(self) -> None:
        self._indexes: dict[int, dict[str, Any]] = {}

    def find(self, value: Any, path: Path, shape: Shape) -> tuple[Any, Shape] | None:
        """What is at the path and its shape, or None."""
        for step in path:
            found = self._step(value, step, shape)
            if found is None:
                return None
            value, shape = found
        return value, shape

    def _step(self, value: Any, step: str, shape: Shape) -> tuple[Any, Shape] | None:
        if step[0] == "f" and isinstance(value, dict) and step[2:] in value and shape.child:
            return value[step[2:]], shape.child(step[2:])
        if step[0] == "k" and isinstance(value, list) and shape.item:
            index = self._indexes.get(id(value))
            if index is None:
                index = self._indexes[id(value)] = {item_key(item, shape): item for item in reversed(value)}
            return (index[step], shape.item()) if step in index else None
        return None


def _merge(live: Any, config: Any, shape: Shape) -> Any:
    if shape.form == "granular" and isinstance(live, dict) and isinstance(config, dict) and shape.child:
        result = dict(live)
        for key, value in config.items():
            result[key] = _merge(live[key], value, shape.child(key)) if key in live else value
        return result
    if shape.form == "keyed" and isinstance(live, list) and isinstance(config, list) and shape.item:
        wanted = {item_key(item, shape): item for item in config}
        kept = []
        for item in live:
            key = item_key(item, shape)
            kept.append(_merge(item, wanted.pop(key), shape.item()) if key in wanted else item)
        return [*kept, *wanted.values()]
    if shape.form == "set" and isinstance(live, list) and isinstance(config, list):
        return united(live, config)
    return config


def _drop_abandoned(merged: Object, owned: Tree, wanted: Tree, others: list[Object], shape: Shape) -> None:
    """Remove what the manager owned alone and no longer names: items as a whole, so the outermost first."""
    finder = Finder()
    items: dict[int, tuple[list[Any], Shape, set[str]]] = {}
    for path in sorted(paths_of(owned), key=len):
        if contains(wanted, path) or any(contains(entry["fieldsV1"], path) for entry in others):
            continue
        if len(path) > 1 and path[-2][0] == "k" and path[-1][2:] in json.loads(path[-2][2:]):
            continue  # the keys of an item go only with the item
        found = finder.find(merged, path[:-1], shape)
        if found is None:
            continue
        holder, inner = found
        if path[-1][0] == "f" and isinstance(holder, dict):
            holder.pop(path[-1][2:], None)
            _drop_emptied(merged, path[:-1], wanted, others, shape)
        elif isinstance(holder, list):
            items.setdefault(id(holder), (holder, inner, set()))[2].add(path[-1])
    for holder, inner, gone in items.values():
        holder[:] = [item for item in holder if _step_of(item, inner) not in gone]


def _drop_emptied(merged: Object, path: Path, wanted: Tree, others: list[Object], shape: Shape) -> None:
    """Maps that lost their last field go with it: `tls: {}` is not the same as no `tls`.

    sigs.k8s.io/structured-merge-diff typed/remove.go doMap leaves nothing where nothing is left.
    """
    while len(path) > 1 and path[-1][0] == "f":
        found = Finder().find(merged, path[:-1], shape)
        holder, name = (found[0] if found else None), path[-1][2:]
        if not isinstance(holder, dict) or holder.get(name) != {}:
            return
        if contains(wanted, path) or any(contains(entry["fieldsV1"], path) for entry in others):
            return
        del holder[name]
        path = path[:-1]


def _step_of(item: Any, shape: Shape) -> str:
    return item_key(item, shape) if shape.form == "keyed" else value_key(item)


def _insert(tree: Tree, path: Path) -> None:
    for step in path:
        tree = tree.setdefault(step, {})
