"""What is asked of localityLbSetting: pkg/config/validation/agent/validation.go ValidateLocalityLbSetting."""

from __future__ import annotations

from labkit.policy.validation.findings import Findings, Object, Remark, items

_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


def locality(setting: Object | None, outlier: Object | None) -> Findings:
    """Where requests go by region, zone and subzone."""
    if setting is None:
        return
    distribute, failover = items(setting, "distribute"), items(setting, "failover")
    priority = items(setting, "failoverPriority")
    if distribute and failover:
        yield "can not simultaneously specify 'distribute' and 'failover'"
        return
    if failover and (label := next((one for one in priority if one in _TOPOLOGY), "")):
        yield f"can not simultaneously set 'failover' and topology label '{label}' in 'failover_priority'"
        return
    for entry in distribute:
        weights = [int(one) for one in (entry.get("to") or {}).values()]
        if any(not 0 < one <= 100 for one in weights):
            yield "locality weight must be in range [1, 100]"
            return
        if sum(weights) != 100:
            yield f"total locality weight {sum(weights)} != 100"
            return
        yield from _apart(list(entry.get("to") or {}))
    yield from _apart([str(entry.get("from") or "") for entry in distribute])
    if (failover or priority) and outlier is None:
        yield Remark("outlier detection policy must be provided for failover")
    for entry in failover:
        here, there = str(entry.get("from") or ""), str(entry.get("to") or "")
        if here == there:
            yield "locality lb failover settings must specify different regions"
        if "/" in here + there:
            yield "locality lb failover only specify region"
        if "*" in here + there:
            yield "locality lb failover region should not contain '*' wildcard"


def _apart(localities: list[str]) -> Findings:
    """Localities, of which no one may be part of another: region, region/zone, region/zone/subzone, `*` at the end."""
    seen: list[list[str]] = []
    for one in localities:
        if one.count("*") > 1 or (one.count("*") and not one.endswith("*")):
            yield f"locality {one} wildcard '*' number can not exceed 1 and must be in the end"
            return
        parts = one.split("/", 2)
        if not all(parts):
            yield f"locality {one} must not contain empty region/zone/subzone info"
            return
        if any(parts[: len(whole)] == whole for whole in map(_without_star, seen)) or any(
            other[: len(parts)] == parts for other in seen
        ):
            yield f"locality {one} overlap with previous specified ones"
            return
        seen.append(parts)


def _without_star(parts: list[str]) -> list[str]:
    return parts[:-1] if parts[-1] == "*" else parts
