"""Volumes of a pod as directories, and its mounts as symbolic links below the pod's root.

A pod sees `<pod>/root` as $POD_ROOT; a mount at `/etc/config` is `$POD_ROOT/etc/config`. There is no mount
namespace, so a program that opens `/etc/config` itself would see the machine's; the node therefore translates
paths below a mount in a container's command, its arguments and in `kubectl exec` (`translate_path`).
hostPath leads to `<node_dir>/hostfs/<path>`: the node's file system is not the machine's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from labkit.embedded.node.environment import ContainerConfigError, PodFacts, Reference, field_value, object_data

log = logging.getLogger(__name__)

Object = Mapping[str, Any]
Fetch = Callable[[Reference], Awaitable[Object | None]]
"""Gets a ConfigMap or Secret of the pod's namespace; None when it does not exist."""

TokenSource = Callable[[Mapping[str, Any]], Awaitable[str | None]]
"""Gets a token for a serviceAccountToken projection; None when the API has none to give."""


def below(root: Path, path: str) -> Path:
    """`path` below `root`, whatever it is made of: `..` cannot lead out."""
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == "..":
            parts = parts[:-1]
        elif part not in ("/", "."):
            parts.append(part)
    return root.joinpath(*parts)


def is_made_of_objects(volume: Object) -> bool:
    """Whether the volume's files come from the API and can change there."""
    return any(volume.get(kind) for kind in ("configMap", "secret", "downwardAPI", "projected"))


async def volume_files(volume: Object, facts: PodFacts, fetch: Fetch, token: TokenSource) -> dict[str, bytes] | None:
    """The files of a volume that is made of API objects; None when it is a plain directory."""
    if source := volume.get("configMap"):
        return await _object_files("ConfigMap", source["name"], source, fetch)
    if source := volume.get("secret"):
        return await _object_files("Secret", source["secretName"], source, fetch)
    if source := volume.get("downwardAPI"):
        return _downward_files(source, facts)
    if projected := volume.get("projected"):
        files: dict[str, bytes] = {}
        for source in projected.get("sources") or []:
            files.update(await _projected_files(source, facts, fetch, token))
        return files
    return None


async def _projected_files(source: Object, facts: PodFacts, fetch: Fetch, token: TokenSource) -> dict[str, bytes]:
    if part := source.get("configMap"):
        return await _object_files("ConfigMap", part["name"], part, fetch)
    if part := source.get("secret"):
        return await _object_files("Secret", part["name"], part, fetch)
    if part := source.get("downwardAPI"):
        return _downward_files(part, facts)
    if part := source.get("serviceAccountToken"):
        text = await token(part)
        return {} if text is None else {part["path"]: text.encode()}
    return {}


async def _object_files(kind: str, name: str, source: Object, fetch: Fetch) -> dict[str, bytes]:
    obj = await fetch(Reference(kind, name))
    if obj is None:
        if source.get("optional"):
            return {}
        raise ContainerConfigError(f'MountVolume.SetUp failed: {kind.lower()} "{name}" not found', reason="FailedMount")
    data = object_data(obj, kind)
    if not source.get("items"):
        return data
    files = {}
    for item in source["items"]:
        if item["key"] in data:
            files[item["path"]] = data[item["key"]]
        elif not source.get("optional"):
            raise ContainerConfigError(
                f'MountVolume.SetUp failed: {kind.lower()} "{name}" has no key {item["key"]}', reason="FailedMount"
            )
    return files


def _downward_files(source: Object, facts: PodFacts) -> dict[str, bytes]:
    return {
        item["path"]: field_value(facts, item["fieldRef"]["fieldPath"]).encode()
        for item in source.get("items") or []
        if item.get("fieldRef")
    }


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Make `directory` hold exactly `files`; each is replaced by a rename, so that nobody reads half of one."""
    directory.mkdir(parents=True, exist_ok=True)
    wanted = {below(directory, name): content for name, content in files.items()}
    for existing in [p for p in directory.rglob("*") if not p.is_dir() and p not in wanted]:
        existing.unlink(missing_ok=True)
    for path, content in wanted.items():
        if path.exists() and path.read_bytes() == content:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # No key begins with two dots, and a key may be as long as a file's name can be.
        aside = path.with_name("..new")
        aside.write_bytes(content)
        aside.chmod(0o600)
        aside.replace(path)


async def prepare_volumes(
    pod: Object, directory: Path, hostfs: Path, facts: PodFacts, fetch: Fetch, token: TokenSource
) -> None:
    """Make the volumes of a pod and link them to where its containers mount them.

    Raises ContainerConfigError FailedMount when an object is missing. Called again, it brings files up to date.
    """
    sources: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes") or []:
        if host := volume.get("hostPath"):
            sources[volume["name"]] = below(hostfs, host["path"])
        else:
            sources[volume["name"]] = directory / "volumes" / volume["name"]
        files = await volume_files(volume, facts, fetch, token)
        if files is None:
            sources[volume["name"]].mkdir(parents=True, exist_ok=True)
        else:
            write_files(sources[volume["name"]], files)
    spec = pod["spec"]
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        # Outer mounts first: a mount below another one becomes a link inside of the outer one's volume.
        for mount in sorted(container.get("volumeMounts") or [], key=lambda m: len(m["mountPath"])):
            if mount["name"] not in sources:
                raise ContainerConfigError(f'volume "{mount["name"]}" is not among the pod\'s', reason="FailedMount")
            target = sources[mount["name"]]
            if mount.get("subPath"):
                target = below(target, mount["subPath"])
                if not target.exists():
                    target.mkdir(parents=True, exist_ok=True)
            _link(below(directory / "root", mount["mountPath"]), target)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and os.readlink(link) == str(target):  # noqa: PTH115 - compared as text
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    elif link.is_dir():
        log.warning("%s exists and hides a mount", link)
        return
    link.symlink_to(target)


def translate_path(word: str, container: Object, root: Path) -> str:
    """A word of a command line, with a path at or below one of the container's mounts led into the pod's root.

    Translated are a path that is the whole word and one behind `=`, as in `--config=/etc/config/app.yaml`.
    """
    head, separator, tail = word.rpartition("=") if word.startswith("-") else ("", "", word)
    for mount in container.get("volumeMounts") or []:
        at = mount["mountPath"].rstrip("/")
        if at and (tail == at or tail.startswith(f"{at}/")):
            return f"{head}{separator}{below(root, tail)}"
    return word
