"""The kinds that are served, as data: group, version, names, scope, subresources, and the model of each kind.

A kind is served when it has a row here or a CustomResourceDefinition. This file decides nothing about objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Kind:
    """One served kind in one version."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    model: str = ""
    """Class in the `kubernetes` package that describes the fields; empty for custom resources."""
    singular: str = ""
    list_kind: str = ""
    schema: Object | None = field(default=None, compare=False)
    """openAPIV3Schema of a custom resource."""
    printer_columns: tuple[Object, ...] | None = field(default=None, compare=False)
    """additionalPrinterColumns of a custom resource."""
    scale: Object | None = field(default=None, compare=False)
    """spec.versions[].subresources.scale of a custom resource."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The key in storage, without a version."""
        return f"{self.group}/{self.plural}"

    @property
    def qualified(self) -> str:
        """`deployments.apps`, as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def singular_name(self) -> str:
        return self.singular or self.kind.lower()

    @property
    def list_name(self) -> str:
        return self.list_kind or f"{self.kind}List"

    @property
    def custom(self) -> bool:
        return not self.model

    @property
    def has_status(self) -> bool:
        """Status is written through its own subresource, and only there."""
        return "status" in self.subresources


def _kind(group: str, version: str, plural: str, kind: str, model: str = "", **more: Any) -> Kind:
    return Kind(group, version, plural, kind, model=model or f"V1{kind}", **more)


_POD_STREAMS = ("attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "proxy", "status")
_REVIEW: dict[str, Any] = {"verbs": ("create",), "namespaced": False}

BUILTIN: tuple[Kind, ...] = (
    _kind("", "v1", "bindings", "Binding", verbs=("create",)),
    _kind("", "v1", "configmaps", "ConfigMap", short_names=("cm",)),
    _kind("", "v1", "endpoints", "Endpoints", short_names=("ep",)),
    _kind("", "v1", "events", "Event", "CoreV1Event", short_names=("ev",)),
    _kind("", "v1", "limitranges", "LimitRange", short_names=("limits",)),
    _kind(
        "",
        "v1",
        "namespaces",
        "Namespace",
        namespaced=False,
        short_names=("ns",),
        subresources=("finalize", "status"),
        verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
    ),
    _kind("", "v1", "nodes", "Node", namespaced=False, short_names=("no",), subresources=("proxy", "status")),
    _kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", short_names=("pvc",), subresources=("status",)),
    _kind(
        "",
        "v1",
        "persistentvolumes",
        "PersistentVolume",
        namespaced=False,
        short_names=("pv",),
        subresources=("status",),
    ),
    _kind("", "v1", "pods", "Pod", short_names=("po",), categories=("all",), subresources=_POD_STREAMS),
    _kind("", "v1", "podtemplates", "PodTemplate"),
    _kind(
        "",
        "v1",
        "replicationcontrollers",
        "ReplicationController",
        short_names=("rc",),
        categories=("all",),
        subresources=("scale", "status"),
    ),
    _kind("", "v1", "resourcequotas", "ResourceQuota", short_names=("quota",), subresources=("status",)),
    _kind("", "v1", "secrets", "Secret"),
    _kind("", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",), subresources=("token",)),
    _kind(
        "",
        "v1",
        "services",
        "Service",
        short_names=("svc",),
        categories=("all",),
        subresources=("proxy", "status"),
    ),
    _kind(
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        namespaced=False,
        categories=("api-extensions",),
    ),
    _kind(
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        namespaced=False,
        categories=("api-extensions",),
    ),
    _kind(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        namespaced=False,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        subresources=("status",),
    ),
    _kind("apps", "v1", "controllerrevisions", "ControllerRevision"),
    _kind("apps", "v1", "daemonsets", "DaemonSet", short_names=("ds",), categories=("all",), subresources=("status",)),
    _kind(
        "apps",
        "v1",
        "deployments",
        "Deployment",
        short_names=("deploy",),
        categories=("all",),
        subresources=("scale", "status"),
    ),
    _kind(
        "apps",
        "v1",
        "replicasets",
        "ReplicaSet",
        short_names=("rs",),
        categories=("all",),
        subresources=("scale", "status"),
    ),
    _kind(
        "apps",
        "v1",
        "statefulsets",
        "StatefulSet",
        short_names=("sts",),
        categories=("all",),
        subresources=("scale", "status"),
    ),
    _kind("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", **_REVIEW),
    _kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", **_REVIEW),
    _kind(
        "authorization.k8s.io",
        "v1",
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
        verbs=("create",),
    ),
    _kind("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", **_REVIEW),
    _kind("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", **_REVIEW),
    _kind("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", **_REVIEW),
    _kind("batch", "v1", "cronjobs", "CronJob", short_names=("cj",), categories=("all",), subresources=("status",)),
    _kind("batch", "v1", "jobs", "Job", categories=("all",), subresources=("status",)),
    _kind("coordination.k8s.io", "v1", "leases", "Lease"),
    _kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    _kind(
        "networking.k8s.io",
        "v1",
        "ingressclasses",
        "IngressClass",
        namespaced=False,
    ),
    _kind("networking.k8s.io", "v1", "ingresses", "Ingress", short_names=("ing",), subresources=("status",)),
    _kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", short_names=("netpol",)),
    _kind(
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        short_names=("pdb",),
        subresources=("status",),
    ),
    _kind("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    _kind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False),
    _kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    _kind("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    _kind("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False, short_names=("pc",)),
    _kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False, short_names=("sc",)),
)

NAMESPACES = "/namespaces"
PODS = "/pods"
SERVICES = "/services"
NODES = "/nodes"
CRDS = "apiextensions.k8s.io/customresourcedefinitions"


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key, best first: GA before beta before alpha, higher numbers first.

    https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority
    """
    import re

    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if not match:
        return (3, 0, 0, version)
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return (stage, -int(match[1]), -int(match[3] or 0), version)


class Catalogue:
    """All kinds that are served right now: the built-in ones and those of CustomResourceDefinitions."""

    def __init__(self) -> None:
        self._builtin = {(kind.group, kind.version, kind.plural): kind for kind in BUILTIN}
        self._custom: dict[str, tuple[Kind, ...]] = {}
        self._all = dict(self._builtin)
        self.generation = 0
        """Counts changes; documents made from the catalogue are cached under it."""

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind behind a URL, or None."""
        return self._all.get((group, version, plural))

    def by_resource(self, resource: str) -> Kind | None:
        """Any served version of a storage key."""
        return next((kind for kind in self._all.values() if kind.resource == resource), None)

    def of_group(self, group: str) -> list[Kind]:
        """All kinds of a group, in all versions."""
        return [kind for kind in self._all.values() if kind.group == group]

    def __iter__(self) -> Iterator[Kind]:
        return iter(list(self._all.values()))

    def groups(self) -> dict[str, list[str]]:
        """The named groups and their versions, best first."""
        groups: dict[str, set[str]] = {}
        for kind in self._all.values():
            if kind.group:
                groups.setdefault(kind.group, set()).add(kind.version)
        return {group: sorted(versions, key=version_priority) for group, versions in groups.items()}

    def has_group_version(self, group: str, version: str) -> bool:
        """Whether anything is served under this group and version."""
        return any(kind.group == group and kind.version == version for kind in self._all.values())

    def set_custom(self, definition: str, kinds: Iterable[Kind]) -> None:
        """Serve the kinds of the CustomResourceDefinition named `definition`, instead of those it had."""
        self._custom[definition] = tuple(kinds)
        self._rebuild()

    def drop_custom(self, definition: str) -> None:
        """Serve them no longer."""
        if self._custom.pop(definition, None) is not None:
            self._rebuild()

    def _rebuild(self) -> None:
        self._all = dict(self._builtin)
        for kinds in self._custom.values():
            for kind in kinds:
                self._all.setdefault((kind.group, kind.version, kind.plural), kind)
        self.generation += 1
