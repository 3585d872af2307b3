"""Is a mesh installed, which one, and does it work? Read from the API, so the same for every way of installing."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import CRD, MUTATING_WEBHOOK, PEER_AUTHENTICATION
from labkit.display import as_lines, as_table
from labkit.observe.objects import find_istiod, labels_of, name_of, namespace_of
from labkit.observe.waiting import missing_in_deployment

DEFAULT_REVISION = "default"


@dataclass(frozen=True, repr=False)
class MeshStatus:
    """What of a mesh is on the cluster."""

    installed: bool = False
    namespace: str = ""
    revision: str = ""
    istiod: str = ""
    istiod_ready: bool = False
    not_ready_because: str = ""
    kinds: tuple[str, ...] = ()
    knows_peer_authentication: bool = False
    webhooks: tuple[str, ...] = ()
    webhook_has_ca: bool = False
    ours: bool = False

    @property
    def ready(self) -> bool:
        return self.installed and self.istiod_ready

    def rows(self) -> list[tuple[str, str]]:
        """The status as (name, value) pairs."""
        if not self.installed:
            known = ", ".join(self.kinds)
            return [
                ("mesh", "not installed"),
                ("Istio's kinds", known or "none: PeerAuthentication is an unknown kind"),
            ]
        webhook = f"{', '.join(self.webhooks)}{'' if self.webhook_has_ca else ' (no CA bundle yet)'}"
        return [
            ("mesh", "ready" if self.ready else f"not ready: {self.not_ready_because}"),
            ("control plane", f"{self.istiod} in {self.namespace}"),
            ("revision", self.revision),
            ("Istio's kinds", ", ".join(self.kinds) or "none"),
            ("injection webhook", webhook if self.webhooks else "none"),
        ]

    def __str__(self) -> str:
        return as_lines(self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_table(self.rows())

    @property
    def injection_label(self) -> dict[str, str]:
        """The namespace label that selects this control plane."""
        return {"istio.io/rev": self.revision} if self.installed else {}


def mesh_status(cluster: Cluster) -> MeshStatus:
    """Look for istiod, Istio's kinds and the injection webhook."""
    istiod = find_istiod(cluster)
    kinds = tuple(sorted(c["spec"]["names"]["kind"] for c in cluster.objects(CRD) if ".istio.io" in name_of(c)))
    webhooks = [w for w in cluster.objects(MUTATING_WEBHOOK) if labels_of(w).get("app") == "sidecar-injector"]
    hooks = [hook for webhook in webhooks for hook in webhook.get("webhooks") or []]
    missing = missing_in_deployment(istiod) if istiod else ""
    return MeshStatus(
        installed=istiod is not None,
        namespace=namespace_of(istiod) if istiod else "",
        revision=_revision(istiod) if istiod else "",
        istiod=name_of(istiod) if istiod else "",
        istiod_ready=istiod is not None and not missing,
        not_ready_because=missing,
        kinds=kinds,
        knows_peer_authentication=cluster.serves(PEER_AUTHENTICATION),
        webhooks=tuple(name_of(webhook) for webhook in webhooks),
        webhook_has_ca=bool(hooks) and all(hook.get("clientConfig", {}).get("caBundle") for hook in hooks),
        ours=istiod is not None and labels_of(istiod).get("app.kubernetes.io/managed-by") == "labkit",
    )


def _revision(istiod: Obj) -> str:
    return labels_of(istiod).get("istio.io/rev") or DEFAULT_REVISION
