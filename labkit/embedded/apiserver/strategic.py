"""Strategic merge patch for built-in kinds: lists of objects are merged by a key instead of being replaced. Pure.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
`LIST_KEYS` is also what OpenAPI documents say about lists, and what server-side apply goes by.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from labkit.embedded.apiserver.failures import bad_request
from labkit.embedded.apiserver.models import model, split_type

Object = dict[str, Any]


@dataclass(frozen=True)
class ListKeys:
    """How a list is merged: by `merge_key` in strategic patches, by all `keys` in server-side apply."""

    merge_key: str = ""
    """Empty: a set of plain values."""
    keys: tuple[str, ...] = ()
    retain_keys: bool = False


def _by(*keys: str, merge_key: str = "", retain_keys: bool = False) -> ListKeys:
    return ListKeys(merge_key or keys[0], keys, retain_keys)


_SET = ListKeys()
_CONTAINERS = _by("name")
_CONDITIONS = _by("type")

# From the `patchStrategy`, `patchMergeKey`, `listType` and `listMapKey` tags in k8s.io/api/*/v1/types.go.
LIST_KEYS: dict[tuple[str, str], ListKeys] = {
    ("V1ObjectMeta", "ownerReferences"): _by("uid"),
    ("V1ObjectMeta", "finalizers"): _SET,
    ("V1PodSpec", "containers"): _CONTAINERS,
    ("V1PodSpec", "initContainers"): _CONTAINERS,
    ("V1PodSpec", "ephemeralContainers"): _CONTAINERS,
    ("V1PodSpec", "volumes"): _by("name", retain_keys=True),
    ("V1PodSpec", "imagePullSecrets"): _by("name"),
    ("V1PodSpec", "hostAliases"): _by("ip"),
    ("V1PodSpec", "topologySpreadConstraints"): _by("topologyKey", "whenUnsatisfiable"),
    ("V1PodSpec", "schedulingGates"): _by("name"),
    ("V1PodSpec", "resourceClaims"): _by("name", retain_keys=True),
    ("V1Container", "env"): _by("name"),
    ("V1Container", "ports"): _by("containerPort", "protocol"),
    ("V1Container", "volumeMounts"): _by("mountPath"),
    ("V1Container", "volumeDevices"): _by("devicePath"),
    ("V1EphemeralContainer", "env"): _by("name"),
    ("V1EphemeralContainer", "ports"): _by("containerPort", "protocol"),
    ("V1EphemeralContainer", "volumeMounts"): _by("mountPath"),
    ("V1PodStatus", "conditions"): _CONDITIONS,
    ("V1PodStatus", "podIPs"): _by("ip"),
    ("V1PodStatus", "hostIPs"): _by("ip"),
    ("V1ServiceSpec", "ports"): _by("port", "protocol"),
    ("V1ServiceStatus", "conditions"): _CONDITIONS,
    ("V1ServiceAccount", "secrets"): _by("name"),
    ("V1ServiceAccount", "imagePullSecrets"): _by("name"),
    ("V1NodeSpec", "podCIDRs"): _SET,
    ("V1NodeStatus", "conditions"): _CONDITIONS,
    ("V1NodeStatus", "addresses"): _by("type"),
    ("V1NamespaceStatus", "conditions"): _CONDITIONS,
    ("V1DeploymentStatus", "conditions"): _CONDITIONS,
    ("V1ReplicaSetStatus", "conditions"): _CONDITIONS,
    ("V1ReplicationControllerStatus", "conditions"): _CONDITIONS,
    ("V1StatefulSetStatus", "conditions"): _CONDITIONS,
    ("V1DaemonSetStatus", "conditions"): _CONDITIONS,
    ("V1JobStatus", "conditions"): _CONDITIONS,
    ("V1PodDisruptionBudgetStatus", "conditions"): _CONDITIONS,
    ("V1MutatingWebhookConfiguration", "webhooks"): _by("name"),
    ("V1ValidatingWebhookConfiguration", "webhooks"): _by("name"),
    ("V1MutatingWebhook", "matchConditions"): _by("name"),
    ("V1ValidatingWebhook", "matchConditions"): _by("name"),
}

# Lists that only server-side apply merges; a strategic patch replaces them.
APPLY_ONLY_KEYS: dict[tuple[str, str], ListKeys] = {
    ("V1CustomResourceDefinitionStatus", "conditions"): _CONDITIONS,
}


def strategic_merge(model_name: str, obj: Object, patch: Object) -> Object:
    """`obj` with a strategic merge patch applied. Raises 400 for a malformed one."""
    merged = _merge_map(model_name, obj, patch)
    return merged if merged is not None else {}


def _field_type(model_name: str, key: str) -> str:
    described = model(model_name) if model_name else None
    return described.fields.get(key, "") if described else ""


def _merge_map(model_name: str, target: Object, patch: Object) -> Object | None:
    """The merged map, or None when the patch deletes it."""
    directive = patch.get("$patch")
    if directive == "delete":
        return None
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive not in (None, "merge"):
        raise bad_request(f"Unknown patch type found: {directive}")
    result = dict(target)
    if isinstance(retained := patch.get("$retainKeys"), list):
        result = {key: value for key, value in result.items() if key in retained}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            _delete_values(result, key.split("/", 1)[1], value)
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys") or key.startswith(("$deleteFromPrimitiveList/", "$setElementOrder/")):
            continue
        _merge_field(model_name, result, key, value)
    for key, value in patch.items():
        if key.startswith("$setElementOrder/"):
            _set_order(model_name, result, key.split("/", 1)[1], value)
    return result


def _merge_field(model_name: str, result: Object, key: str, value: Any) -> None:
    if value is None:
        result.pop(key, None)
        return
    field_type = _field_type(model_name, key)
    container, inner = split_type(field_type)
    present = result.get(key)
    if isinstance(value, dict):
        inner_model = inner if container != "list" and inner[:1].isupper() else ""
        merged = _merge_map(inner_model, present if isinstance(present, dict) else {}, value)
        if merged is None:
            result.pop(key, None)
        else:
            result[key] = merged
    elif isinstance(value, list):
        result[key] = _merge_list(model_name, key, inner, present if isinstance(present, list) else [], value)
    else:
        result[key] = value


def _merge_list(model_name: str, key: str, item_model: str, target: list[Any], patch: list[Any]) -> list[Any]:
    keys = LIST_KEYS.get((model_name, key))
    if keys is None:
        return [_without_directives(item) for item in patch]
    if not keys.merge_key:
        return united(target, patch)
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [_without_directives(i) for i in patch if not (isinstance(i, dict) and i.get("$patch") == "replace")]
    result: list[Any] = list(target)
    places: dict[str, list[int]] = {}
    for i, old in enumerate(result):
        if isinstance(old, dict):
            places.setdefault(_identity(old.get(keys.merge_key)), []).append(i)
    for item in patch:
        if not isinstance(item, dict) or keys.merge_key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {keys.merge_key}")
        _merge_item(keys, item_model, result, places, item)
    return [item for item in result if item is not _GONE]


_GONE = object()


def _identity(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def united(one: list[Any], other: list[Any]) -> list[Any]:
    """`one`, and what only `other` has. Long lists are common enough that comparing each with each would not end."""
    known = {_identity(item) for item in one}
    return [*one, *(item for item in other if _identity(item) not in known)]


def _merge_item(keys: ListKeys, item_model: str, result: list[Any], places: dict[str, list[int]], item: Object) -> None:
    """Merge one item of a patch; `places` says where in `result` the items with its key are."""
    wanted = _identity(item[keys.merge_key])
    found = places.get(wanted)
    if item.get("$patch") == "delete":
        for place in places.pop(wanted, []):
            result[place] = _GONE
    elif found:
        merged = _merge_map(item_model, result[found[0]], item)
        if merged is not None:
            result[found[0]] = merged
    else:
        merged = _merge_map(item_model, {}, item)
        if merged is not None:
            places[wanted] = [len(result)]
            result.append(merged)


def _without_directives(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            k: _without_directives(v) for k, v in value.items() if not k.startswith("$") or k in ("$ref", "$schema")
        }
    if isinstance(value, list):
        return [_without_directives(item) for item in value]
    return value


def _delete_values(result: Object, key: str, values: Any) -> None:
    if not isinstance(values, list):
        raise bad_request("$deleteFromPrimitiveList must be a list")
    if isinstance(present := result.get(key), list):
        gone = {_identity(value) for value in values}
        result[key] = [item for item in present if _identity(item) not in gone]


def _set_order(model_name: str, result: Object, key: str, order: Any) -> None:
    """Items named in `order` come in that order; the others keep their places behind their neighbours."""
    present = result.get(key)
    if not isinstance(order, list) or not isinstance(present, list):
        return
    keys = LIST_KEYS.get((model_name, key))
    merge_key = keys.merge_key if keys else ""

    def identity(item: Any) -> Any:
        return item.get(merge_key) if merge_key and isinstance(item, dict) else item

    wanted = [identity(item) for item in order]
    ranked = {repr(value): rank for rank, value in enumerate(wanted)}
    position = -1.0
    places: list[tuple[float, int, Any]] = []
    for index, item in enumerate(present):
        rank = ranked.get(repr(identity(item)))
        position = position if rank is None else float(rank)
        places.append((position + 0.5 if rank is None else position, index, item))
    result[key] = [item for _, _, item in sorted(places, key=lambda place: place[:2])]
