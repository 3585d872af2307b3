"""Directories of manifests as they lie in a repository: any depth, Helm's and others' files between, many documents.

Where `labkit.cluster.manifests` reads what is to be applied, and refuses what cannot be, here is read what there is:
YAML that is no Kubernetes object is passed over and named, so that a look at a whole repository works.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from labkit.cluster.kinds import Obj
from labkit.cluster.manifests import find_path, invalid_yaml, shown_path
from labkit.errors import InputError

STANDARD_INPUT = "-"
_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Place:
    """Where an object stands: a file, and the line at which it begins."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass
class Tree:
    """The objects of some files, where each stands, and what was passed over."""

    objects: list[Obj] = field(default_factory=list)
    places: dict[tuple[str, str, str], Place] = field(default_factory=dict)
    """By kind, namespace (empty for a Namespace) and name."""
    skipped: list[str] = field(default_factory=list)
    nodes: dict[tuple[str, str, str], yaml.Node] = field(default_factory=dict, repr=False)
    """The same as YAML's nodes, which know the lines of their fields."""
    notes: list[str] = field(default_factory=list)
    """What to know beside: objects that stand in two places."""

    def place_of(self, kind: str, namespace: str, name: str, path: str) -> Place | None:
        """Where a field of an object stands, such as `spec.http[0].route`; as much of the path as there is."""
        key = (kind, namespace, name)
        known, node = self.places.get(key), self.nodes.get(key)
        return Place(known.path, _line_at(node, path) or known.line) if known and node else known

    def at(self, key: tuple[str, str, str]) -> tuple[str, int] | None:
        """(path, line) of an object, by kind, namespace and name; None if it is none of these."""
        kind, namespace, name = key
        place = self.places.get((kind, "" if kind == "Namespace" else namespace, name))
        return (place.path, place.line) if place else None


def read_tree(sources: Iterable[str | Path], namespace: str = "") -> Tree:
    """Everything below some files and directories; `-` is standard input. What names no namespace is in `namespace`.

    Raises InputError for what is not YAML, and where there is not one Kubernetes object.
    """
    tree, names = Tree(), []
    for source in sources:
        names.append(str(source))
        for shown, text in _texts(source):
            _read(tree, text, shown, namespace)
    if not tree.objects:
        passed = f" Passed over: {'; '.join(tree.skipped[:5])}." if tree.skipped else ""
        raise InputError(
            f"There is no Kubernetes object in {', '.join(names) or 'nothing'}.",
            meaning=f"An object names its apiVersion, kind and metadata.name.{passed}",
            next_step="Give a directory of manifests, or what 'helm template' or 'kustomize build' prints, as '-'.",
        )
    return tree


def _texts(source: str | Path) -> Iterator[tuple[str, str]]:
    if str(source) == STANDARD_INPUT:
        yield "standard input", sys.stdin.read()
        return
    path = find_path(source)
    for file in [path] if path.is_file() else _below(path):
        try:
            yield shown_path(file), file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError) as error:
            raise InputError(f"{shown_path(file)} cannot be read: {error}.", next_step="Give text files.") from error


def _below(path: Path) -> list[Path]:
    """Files below a directory, but for hidden ones."""
    found = (file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))


def _read(tree: Tree, text: str, shown: str, namespace: str) -> None:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            if (node := loader.get_node()) is not None:
                _take(tree, loader, node, shown, namespace)
    except yaml.MarkedYAMLError as error:
        wrong = invalid_yaml(error, text, shown)
        if "{{" in text:
            wrong.next_step = "This looks like a template of Helm: give what 'helm template' prints, as '-'."
        raise wrong from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{shown} is not valid YAML: {error}", next_step="Correct it.") from error
    finally:
        loader.dispose()


def _take(tree: Tree, loader: yaml.SafeLoader, node: yaml.Node, shown: str, namespace: str) -> None:
    obj = loader.construct_document(node)
    if obj is None:
        return
    line = node.start_mark.line + 1
    if isinstance(obj, dict) and str(obj.get("kind", "")).endswith("List") and isinstance(obj.get("items"), list):
        own = str(obj["kind"]).removesuffix("List")
        items = _items(node)
        for number, item in enumerate(obj["items"]):
            if isinstance(item, dict) and own:
                item = {"apiVersion": obj.get("apiVersion"), "kind": own, **item}
            at = items[number] if number < len(items) else node
            _keep(tree, item, Place(shown, at.start_mark.line + 1), namespace, at)
        return
    _keep(tree, obj, Place(shown, line), namespace, node)


def _keep(tree: Tree, obj: Any, place: Place, namespace: str, node: yaml.Node) -> None:
    if why := _no_object(obj):
        tree.skipped.append(f"{place} ({why})")
        return
    metadata = obj["metadata"]
    if namespace and not metadata.get("namespace"):
        metadata["namespace"] = namespace
    where = "" if obj["kind"] == "Namespace" else str(metadata.get("namespace") or "default")
    known = (str(obj["kind"]), where, str(metadata["name"]))
    if before := tree.places.get(known):
        said = f"{known[0]} {f'{where}/' if where else ''}{known[2]}"
        tree.notes.append(f"{said} stands in {before} and in {place}; the latter counts, as the one applied last")
    tree.objects.append(obj)
    tree.places[known], tree.nodes[known] = place, node


def _no_object(obj: Any) -> str:
    """Why something is no Kubernetes object; empty if it is one."""
    if not isinstance(obj, dict):
        return f"{'a list' if isinstance(obj, list) else 'a single value'}, and no mapping"
    if not (isinstance(obj.get("apiVersion"), str) and isinstance(obj.get("kind"), str)):
        return "no apiVersion and kind"
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name") or metadata.get("generateName"), str):
        return "no metadata.name"
    metadata.setdefault("name", metadata.get("generateName"))
    return ""


def _items(node: yaml.Node) -> list[yaml.Node]:
    found = _step(node, "items")
    return list(found[1].value) if found and isinstance(found[1], yaml.SequenceNode) else []


def _line_at(node: yaml.Node, path: str) -> int:
    """The line of a field, or of the nearest that is there; 0 when not even the first is."""
    line = 0
    for part in re.findall(r"\[[^\]]*\]|[^.\[]+", path):
        found = _step(node, part.strip("[]"))
        if found is None:
            return line
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _step(node: yaml.Node, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    """The key (or the item itself) and the value of one step into a node."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if getattr(key, "value", "") == name), None)
    if isinstance(node, yaml.SequenceNode) and name.isdigit() and int(name) < len(node.value):
        return node.value[int(name)], node.value[int(name)]
    return None
