"""Which pods get a sidecar: the webhooks' selectors as data, and the decision inside the webhook.

The control plane registers its webhooks from `injection_webhooks`, so that what is predicted here and what the
API server selects are the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

INJECT = "sidecar.istio.io/inject"
REVISION = "istio.io/rev"
INJECTION = "istio-injection"
DEFAULT_REVISION = "default"

# pkg/kube/inject/inject.go IgnoredNamespaces
NEVER_INJECTED_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease", "local-path-storage")
NAMESPACE_NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Requirement:
    """One entry of a label selector's matchExpressions."""

    key: str
    operator: str  # In, NotIn, Exists or DoesNotExist
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        # https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#set-based-requirement
        present = self.key in labels
        if self.operator == "Exists":
            return present
        if self.operator == "DoesNotExist":
            return not present
        listed = present and labels[self.key] in self.values
        # NotIn also selects what does not have the label at all
        return listed if self.operator == "In" else not listed

    def as_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {"values": list(self.values)} if self.values else {}
        return {"key": self.key, "operator": self.operator, **values}


@dataclass(frozen=True)
class InjectionWebhook:
    """One webhook of the MutatingWebhookConfiguration: its name and what it selects."""

    name: str
    namespace: tuple[Requirement, ...]
    pod: tuple[Requirement, ...]

    def selects(self, namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]) -> bool:
        """Whether the API server calls this webhook for a new pod."""
        return all(one.matches(namespace_labels) for one in self.namespace) and all(
            one.matches(pod_labels) for one in self.pod
        )

    def namespace_selector(self) -> dict[str, Any]:
        """The `namespaceSelector` of the webhook."""
        return {"matchExpressions": [one.as_dict() for one in self.namespace]}

    def object_selector(self) -> dict[str, Any]:
        """The `objectSelector` of the webhook."""
        return {"matchExpressions": [one.as_dict() for one in self.pod]}


_NO_INJECTION_LABEL = Requirement(INJECTION, "DoesNotExist")
_NO_REVISION = Requirement(REVISION, "DoesNotExist")
_NOT_REFUSED = Requirement(INJECT, "NotIn", ("false",))


# manifests/charts/istio-control/istio-discovery/templates/mutatingwebhook.yaml
# https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/#controlling-the-injection-policy
def injection_webhooks(
    revision: str = DEFAULT_REVISION, *, enable_namespaces_by_default: bool = False
) -> tuple[InjectionWebhook, ...]:
    """The webhooks of a control plane of `revision`.

    Every revision answers to `istio.io/rev=<revision>` on the namespace, or on the pod where the namespace says
    nothing. Only the default revision answers to `istio-injection=enabled` and to `sidecar.istio.io/inject=true`.
    """
    revision = revision or DEFAULT_REVISION
    own_revision = Requirement(REVISION, "In", (revision,))
    by_revision = (
        InjectionWebhook(
            "rev.namespace.sidecar-injector.istio.io", (own_revision, _NO_INJECTION_LABEL), (_NOT_REFUSED,)
        ),
        InjectionWebhook(
            "rev.object.sidecar-injector.istio.io",
            (_NO_REVISION, _NO_INJECTION_LABEL),
            (_NOT_REFUSED, own_revision),
        ),
    )
    if revision != DEFAULT_REVISION:
        return by_revision
    by_label = (
        InjectionWebhook(
            "namespace.sidecar-injector.istio.io", (Requirement(INJECTION, "In", ("enabled",)),), (_NOT_REFUSED,)
        ),
        InjectionWebhook(
            "object.sidecar-injector.istio.io",
            (_NO_INJECTION_LABEL, _NO_REVISION),
            (Requirement(INJECT, "In", ("true",)), _NO_REVISION),
        ),
    )
    return (*by_revision, *by_label, *((_AUTO,) if enable_namespaces_by_default else ()))


_AUTO = InjectionWebhook(
    "auto.sidecar-injector.istio.io",
    (_NO_INJECTION_LABEL, _NO_REVISION, Requirement(NAMESPACE_NAME, "NotIn", NEVER_INJECTED_NAMESPACES)),
    (Requirement(INJECT, "DoesNotExist"), _NO_REVISION),
)


@dataclass(frozen=True)
class InjectionDecision:
    """Whether a new pod gets a sidecar, why, and by which webhook; `hint` names a common mistake, if one was made."""

    inject: bool
    reason: str
    webhook: str = ""
    hint: str = ""

    def __str__(self) -> str:
        mark = "✔" if self.inject else "✘"
        return f"{mark} {self.reason}" + (f". {self.hint}" if self.hint else "")


# istioctl/pkg/checkinject (the reasons), pkg/kube/inject/inject.go injectRequired
def injection_decision(
    namespace_labels: Mapping[str, str],
    pod_labels: Mapping[str, str],
    pod_annotations: Mapping[str, str] | None = None,
    revision: str = DEFAULT_REVISION,
    *,
    namespace: str = "",
    host_network: bool = False,
    enable_namespaces_by_default: bool = False,
) -> InjectionDecision:
    """Whether a pod that is created now gets a sidecar from the control plane of `revision`. The rules:

    1. The API server calls the webhook only if its selectors match (`injection_webhooks`); `istio-injection=disabled`
       on the namespace and `sidecar.istio.io/inject=false` on the pod prevent that. A pod *annotation* is not a
       label: alone it calls nobody.
    2. The webhook itself refuses pods in the host's network and in Kubernetes' own namespaces.
    3. It then obeys the pod's label `sidecar.istio.io/inject`, and only if there is none, the annotation of that
       name: "true" and "false" decide, anything else leaves it at the default, which is to inject.

    Pods that exist already are never changed.
    """
    revision = revision or DEFAULT_REVISION
    known = {NAMESPACE_NAME: namespace, **namespace_labels} if namespace else namespace_labels
    webhooks = injection_webhooks(revision, enable_namespaces_by_default=enable_namespaces_by_default)
    calling = next((webhook for webhook in webhooks if webhook.selects(known, pod_labels)), None)
    annotations = pod_annotations or {}
    if calling is None:
        reason = _not_called(namespace_labels, pod_labels, revision)
        return InjectionDecision(False, reason, hint=_hint(namespace_labels, pod_labels, annotations, revision))
    refusal = inject_refusal(pod_labels, annotations, namespace=namespace, host_network=host_network)
    if refusal:
        return InjectionDecision(False, refusal, calling.name)
    return InjectionDecision(True, _called(namespace_labels, pod_labels, revision), calling.name)


def inject_refusal(
    pod_labels: Mapping[str, str],
    pod_annotations: Mapping[str, str],
    *,
    namespace: str = "",
    host_network: bool = False,
) -> str:
    """Why the webhook, once called, leaves a pod as it is; empty if it injects."""
    if host_network:
        return "Pod uses the host's network, where there is no traffic of its own to redirect"
    if namespace in NEVER_INJECTED_NAMESPACES:
        return f"Namespace {namespace} is never injected"
    kind, wish = ("label", pod_labels[INJECT]) if INJECT in pod_labels else ("annotation", pod_annotations.get(INJECT))
    return f"Pod has {INJECT}=false {kind}, preventing injection" if wish == "false" else ""


def _called(namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str], revision: str) -> str:
    by_namespace = _matching(namespace_labels, {INJECTION: "enabled"} if revision == DEFAULT_REVISION else {}, revision)
    by_pod = _matching(pod_labels, {INJECT: "true"} if revision == DEFAULT_REVISION else {}, revision)
    if by_namespace and by_pod:
        return f"Namespace label {by_namespace} matches, and pod label {by_pod} matches"
    if by_namespace or by_pod:
        return f"Namespace label {by_namespace} matches" if by_namespace else f"Pod label {by_pod} matches"
    return "Namespaces without a label are injected by default (enableNamespacesByDefault)"


def _matching(labels: Mapping[str, str], extra: Mapping[str, str], revision: str) -> str:
    wanted = {**extra, REVISION: revision}
    return next((f"{key}={value}" for key, value in wanted.items() if labels.get(key) == value), "")


def _not_called(namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str], revision: str) -> str:
    if namespace_labels.get(INJECTION) == "disabled":
        return f"Namespace has {INJECTION}=disabled label, preventing injection"
    if pod_labels.get(INJECT) == "false":
        return f"Pod has {INJECT}=false label, preventing injection"
    if revision == DEFAULT_REVISION:
        namespace_wants, pod_wants = f", {INJECTION}=enabled", f", {INJECT}=true"
    else:
        namespace_wants = pod_wants = ""
    return (
        f"No matching namespace labels ({REVISION}={revision}{namespace_wants}) "
        f"or pod labels ({REVISION}={revision}{pod_wants})"
    )


def _hint(
    namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str], annotations: Mapping[str, str], revision: str
) -> str:
    """The mistake behind a pod that was meant to be injected."""
    if namespace_labels.get(INJECTION) == "enabled" and revision != DEFAULT_REVISION:
        return (
            f"Revision {revision} does not answer to {INJECTION}=enabled: "
            f"remove that label and set {REVISION}={revision} on the namespace"
        )
    asked_for = namespace_labels.get(REVISION) or pod_labels.get(REVISION)
    if asked_for and asked_for != revision:
        return f"The label asks for revision {asked_for}; this control plane is revision {revision}"
    if annotations.get(INJECT) == "true" and INJECT not in pod_labels:
        return f"The annotation {INJECT}=true alone does nothing where no label calls the webhook: make it a label"
    return ""
