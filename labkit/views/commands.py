"""The kubectl lines that do what a verb of the lab does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.cluster.manifests import find_path, load_documents, looks_like_path, shown_path


def kubectl_for(source: Any, verb: str, namespace: str | None) -> str:
    """`kubectl apply` or `kubectl delete` for a source."""
    where = f" -n {namespace}" if namespace else ""
    parts = source if isinstance(source, list | tuple) else [source]
    paths = [part for part in parts if isinstance(part, Path) or (isinstance(part, str) and looks_like_path(part))]
    if paths and len(paths) == len(parts):
        return f"kubectl {verb}{where} " + " ".join(f"-f {shown_path(find_path(path))}" for path in paths)
    documents = load_documents(source)
    if verb == "delete":
        where = where or (f" -n {documents[0].namespace}" if documents[0].namespace else "")
        return "kubectl delete " + " ".join(f"{d.kind.lower()}/{d.name}" for d in documents) + where
    return f"kubectl {verb}{where} -f -    # with this manifest"


def label_pairs(labels: Mapping[str, str | None]) -> str:
    """Labels as `kubectl label` takes them; a trailing hyphen removes."""
    return " ".join(f"{key}-" if value is None else f"{key}={value}" for key, value in labels.items())


def has_blank(source: Any) -> bool:
    """Whether a `...` is still to be replaced in a source that a learner completes."""
    if source is ... or source == "...":
        return True
    if isinstance(source, str):
        lines = [line.split(" #")[0].rstrip() for line in source.splitlines()]
        return any(line.endswith((": ...", "- ...", "[...]")) or line.strip() == "...:" for line in lines)
    if isinstance(source, Mapping):
        return any(has_blank(value) for value in source.values())
    return isinstance(source, list | tuple) and any(has_blank(value) for value in source)
