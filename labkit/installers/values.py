"""What a person hands over to configure a mesh: files of Helm's values, an IstioOperator, tables, `--set a.b=c`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from labkit.cluster.manifests import find_path
from labkit.errors import InputError
from labkit.policy.mesh_values import from_assignments, merge

Source = str | Path | Mapping[str, Any]
"""A path, YAML text, or a table."""


def load_values(sources: Source | Iterable[Source] = (), assignments: Iterable[str] = ()) -> dict[str, Any]:
    """One table of all, each over the one before, and `--set` over them; with an IstioOperator that is its `spec`."""
    several = [sources] if isinstance(sources, str | Path | Mapping) else list(sources)
    merged = merge(*(_load(one) for one in several))
    said = from_assignments(assignments)
    if merged.get("kind") == "IstioOperator":
        return {**merged, "spec": merge(merged.get("spec") or {}, said)}
    return merge(merged, said)


def _load(source: Source) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    is_text = isinstance(source, str) and ("\n" in source or ": " in source)
    try:
        text = str(source) if is_text else find_path(source).read_text(encoding="utf-8")
        found = yaml.safe_load(text)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The settings of the mesh cannot be read: {error}", next_step="Write them as YAML."
        ) from error
    if not isinstance(found, Mapping | None):
        raise InputError(
            f"{str(source)!r} holds no table of values.",
            next_step="Write keys and values, such as 'meshConfig: {enableAutoMtls: true}'.",
        )
    return found or {}
