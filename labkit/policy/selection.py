"""Which of several objects are for a workload, where a kind selects workloads by namespace and labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

from labkit.policy.configs import Meta
from labkit.policy.workload import Workload, labels_match


class Selecting(Protocol):
    """An object with a selector; an empty one selects all."""

    @property
    def meta(self) -> Meta: ...

    @property
    def selector(self) -> Mapping[str, str]: ...


T = TypeVar("T", bound=Selecting)


NOBODY = {"": "attached by name"}
"""A selector that no workload matches: a label has a name."""


def selector_labels(spec: Mapping[str, Any], *, field: str = "selector", inner: str = "matchLabels") -> dict[str, str]:
    """The labels of `spec.selector.matchLabels`, or of `spec.workloadSelector.labels` with the names given.

    What is attached to gateways of the Gateway API or to waypoints by name (`targetRefs`) is for no other workload.
    """
    # pilot/pkg/model/policyattachment.go
    if spec.get("targetRef") or spec.get("targetRefs"):
        return dict(NOBODY)
    return {key: str(value) for key, value in ((spec.get(field) or {}).get(inner) or {}).items()}


def selected(configs: Iterable[T], workload: Workload, root_namespace: str) -> list[T]:
    """The objects of the workload's namespace and of the root namespace that select it: root first, then by age.

    Here a selector in the root namespace does match workloads of all namespaces. Only PeerAuthentication differs.
    """
    # pilot/pkg/model/push_context.go: EnvoyFilters, WasmPlugins, AuthorizationPolicies, Telemetries
    found = [
        one
        for one in configs
        if one.meta.namespace in (root_namespace, workload.namespace) and labels_match(one.selector, workload.labels)
    ]
    return sorted(found, key=lambda one: (one.meta.namespace != root_namespace, one.meta.age_order))


def narrowest(configs: Iterable[T], workload: Workload, root_namespace: str) -> T | None:
    """The one object that counts where only one can: of the workload's own namespace the oldest that selects it by
    labels, else the oldest without a selector, else the oldest without a selector in the root namespace.
    """
    # pilot/pkg/model/push_context.go getSidecarScope
    mine = sorted((one for one in configs), key=lambda one: one.meta.age_order)
    own = [one for one in mine if one.meta.namespace == workload.namespace]
    by_labels = (one for one in own if one.selector and labels_match(one.selector, workload.labels))
    whole = (one for one in own if not one.selector)
    default = (one for one in mine if one.meta.namespace == root_namespace and not one.selector)
    return next(by_labels, None) or next(whole, None) or next(default, None)
