"""The environment of a container: env, envFrom, fieldRef and $(VAR), by the rules of Kubernetes. Pure.

Rules: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
and the fields of EnvVarSource in the API reference. It does not fetch anything: `references` says which
ConfigMaps and Secrets are needed, the caller hands them in.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import InputError

Object = Mapping[str, Any]


class ContainerConfigError(InputError):
    """A container that cannot be started as it is written. `reason` is what `kubectl get pods` shows."""

    def __init__(self, message: str, *, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message, reason=reason)
        self.reason = reason


@dataclass(frozen=True)
class Reference:
    """A ConfigMap or Secret that a pod needs."""

    kind: str  # ConfigMap or Secret
    name: str
    optional: bool = False


@dataclass(frozen=True)
class PodFacts:
    """What fieldRef and resourceFieldRef may ask for."""

    pod: Object
    pod_ip: str
    host_ip: str
    node_name: str


@dataclass(frozen=True)
class Sources:
    """The fetched objects; a name that is absent does not exist."""

    configmaps: Mapping[str, Object] = field(default_factory=dict)
    secrets: Mapping[str, Object] = field(default_factory=dict)

    def data(self, reference: Reference) -> dict[str, str] | None:
        """The keys and values of an object, decoded; None when it does not exist."""
        table = self.configmaps if reference.kind == "ConfigMap" else self.secrets
        obj = table.get(reference.name)
        if obj is None:
            return None
        return {key: value.decode(errors="replace") for key, value in object_data(obj, reference.kind).items()}


def object_data(obj: Object, kind: str) -> dict[str, bytes]:
    """The content of a ConfigMap (data and binaryData) or a Secret (data) as bytes."""
    data: dict[str, bytes] = {}
    encoded = obj.get("data") if kind == "Secret" else obj.get("binaryData")
    for key, value in (encoded or {}).items():
        try:
            data[key] = base64.b64decode(value or "", validate=True)
        except (binascii.Error, ValueError) as error:
            raise ContainerConfigError(f"key {key} of {kind} is not base64") from error
    if kind == "ConfigMap":
        data.update({key: value.encode() for key, value in (obj.get("data") or {}).items()})
    return data


_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.][-A-Za-z0-9_.]*)\)")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)`. A name that is not defined stays as it is written, and `$$(NAME)` becomes `$(NAME)`."""

    def replacement(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return variables.get(match.group(1), match.group(0))

    return _REFERENCE.sub(replacement, text)


def references(container: Object) -> set[Reference]:
    """The ConfigMaps and Secrets that a container's environment is made from."""
    found = set()
    for source in container.get("envFrom") or []:
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if reference := source.get(key):
                found.add(Reference(kind, reference["name"], bool(reference.get("optional"))))
    for variable in container.get("env") or []:
        for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            if reference := (variable.get("valueFrom") or {}).get(key):
                found.add(Reference(kind, reference["name"], bool(reference.get("optional"))))
    return found


def resolve(container: Object, facts: PodFacts, sources: Sources, base: Mapping[str, str]) -> dict[str, str]:
    """The variables of a container. `base` comes first and may be overridden, envFrom next, env last.

    Raises ContainerConfigError with the kubelet's words when a ConfigMap, a Secret or a key is missing.
    """
    variables = dict(base)
    for source in container.get("envFrom") or []:
        variables.update(_from_whole(source, sources))
    for variable in container.get("env") or []:
        value = _value(variable, container, facts, sources, variables)
        if value is not None:
            variables[variable["name"]] = value
    return variables


def _from_whole(source: Object, sources: Sources) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
        if reference := source.get(key):
            wanted = Reference(kind, reference["name"], bool(reference.get("optional")))
            data = sources.data(wanted)
            if data is None and not wanted.optional:
                raise ContainerConfigError(f'{kind.lower()} "{wanted.name}" not found')
            # A key that no environment can hold is skipped, as the kubelet does.
            return {prefix + k: v for k, v in (data or {}).items() if k and "=" not in k and "\0" not in v}
    return {}


def _value(
    variable: Object, container: Object, facts: PodFacts, sources: Sources, variables: Mapping[str, str]
) -> str | None:
    """The value of one entry of env; None leaves it unset (an optional key that does not exist)."""
    source = variable.get("valueFrom")
    if not source:
        return expand(str(variable.get("value") or ""), variables)
    if reference := source.get("fieldRef"):
        return field_value(facts, reference["fieldPath"])
    if reference := source.get("resourceFieldRef"):
        return resource_value(container, reference)
    for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        if reference := source.get(key):
            return _key_value(Reference(kind, reference["name"], bool(reference.get("optional"))), reference, sources)
    raise ContainerConfigError(f"env {variable['name']}: valueFrom has no source that this node knows")


def _key_value(wanted: Reference, reference: Object, sources: Sources) -> str | None:
    data = sources.data(wanted)
    if data is not None and reference["key"] in data:
        return data[reference["key"]]
    if wanted.optional:
        return None
    if data is None:
        raise ContainerConfigError(f'{wanted.kind.lower()} "{wanted.name}" not found')
    raise ContainerConfigError(f"couldn't find key {reference['key']} in {wanted.kind} {wanted.name}")


_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


def field_value(facts: PodFacts, path: str) -> str:
    """A field of the pod as text; labels and annotations as a whole in the downward API's format."""
    metadata, spec = facts.pod["metadata"], facts.pod.get("spec") or {}
    if subscript := _SUBSCRIPT.fullmatch(path):
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    simple = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", ""),
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": facts.node_name,
        "spec.serviceAccountName": spec.get("serviceAccountName") or "default",
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
    }
    if path in simple:
        return str(simple[path])
    if path in ("metadata.labels", "metadata.annotations"):
        table = metadata.get(path.removeprefix("metadata.")) or {}
        return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted(table.items()))
    raise ContainerConfigError(f"unsupported fieldPath: {path}")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


_UNITS = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "m": 1e-3,
}


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number: `500m` is 0.5, `1Gi` is 1073741824."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text))
    if not match or (match[2] and match[2] not in _UNITS):
        raise ContainerConfigError(f"quantity {text!r} is not valid")
    return float(match[1]) * _UNITS.get(match[2], 1)


def resource_value(container: Object, reference: Object) -> str:
    """limits or requests of cpu or memory, divided and rounded up; without a limit, what the node has.

    Nothing enforces these limits on this node; programs that size themselves by them still get a true number.
    """
    section, _, name = str(reference["resource"]).partition(".")
    amount = ((container.get("resources") or {}).get(section) or {}).get(name)
    if amount is None:
        have = {"cpu": os.cpu_count() or 1, "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}
        if name not in have:
            return "0"
        number = float(have[name]) if section == "limits" else 0.0
    else:
        number = quantity(amount)
    return str(math.ceil(number / (quantity(reference.get("divisor") or "1") or 1)))
