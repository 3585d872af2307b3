"""Ephemeral containers: added to a pod that runs, for a look at it, and never changed or taken away. Pure.

They are written through the subresource `pods/ephemeralcontainers` alone, which is what `kubectl debug POD` does:
https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/ and, for the rules and their words,
ValidatePodEphemeralContainersUpdate and validateEphemeralContainers in pkg/apis/core/validation of Kubernetes.
"""

from __future__ import annotations

from typing import Any

from labkit.embedded.apiserver.failures import Cause, forbidden_field

Object = dict[str, Any]

SUBRESOURCE = "ephemeralcontainers"
PATH = "spec.ephemeralContainers"

# What the others may have and these may not: they are not restarted, not waited for and not counted on.
_NOT_FOR_THEM = ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources", "restartPolicy")


def with_new_ones(old: Object, new: Object) -> Object:
    """The pod `old` with the ephemeral containers of `new`: all that the subresource changes."""
    added = (new.get("spec") or {}).get("ephemeralContainers")
    spec = {key: value for key, value in old.get("spec", {}).items() if key != "ephemeralContainers"}
    if added:
        spec["ephemeralContainers"] = added
    metadata = dict(old["metadata"])
    if entries := new["metadata"].get("managedFields"):
        metadata["managedFields"] = entries
    return {**old, "metadata": metadata, "spec": spec}


def special_rules(spec: Object) -> list[Cause]:
    """What is wrong with the ephemeral containers of a pod, beyond what would be wrong with any container."""
    causes: list[Cause] = []
    sections = ("initContainers", "containers")
    targets = {one.get("name") for section in sections for one in spec.get(section) or []}
    for i, container in enumerate(spec.get("ephemeralContainers") or []):
        where = f"{PATH}[{i}]"
        target = container.get("targetContainerName")
        if target and target not in targets:
            causes.append(Cause(f"{where}.targetContainerName", "FieldValueNotFound", f'Not found: "{target}"'))
        causes += [
            forbidden_field(f"{where}.{field}", "cannot be set for an Ephemeral Container")
            for field in _NOT_FOR_THEM
            if container.get(field)
        ]
        causes += [
            forbidden_field(f"{where}.volumeMounts[{j}].subPath", "cannot be set for an Ephemeral Container")
            for j, mount in enumerate(container.get("volumeMounts") or [])
            if mount.get("subPath")
        ]
    return causes


def keep_old_ones(old: Object, new: Object) -> list[Cause]:
    """Refuse to change or remove what was added before."""
    there = {one.get("name"): one for one in (new.get("spec") or {}).get("ephemeralContainers") or []}
    causes = []
    for before in (old.get("spec") or {}).get("ephemeralContainers") or []:
        name = before.get("name")
        if name not in there:
            causes.append(forbidden_field(PATH, f'existing ephemeral containers "{name}" may not be removed\n'))
        elif there[name] != before:
            causes.append(forbidden_field(PATH, f'existing ephemeral containers "{name}" may not be changed\n'))
    return causes
