"""The settings of the whole mesh that decide about an edge, from the content of the ConfigMap `istio`.

https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.policy.identity import TRUST_DOMAIN
from labkit.policy.injection import DEFAULT_REVISION
from labkit.policy.peer_authentication import ROOT_NAMESPACE
from labkit.policy.sidecar_scope import ALLOW_ANY


@dataclass(frozen=True)
class MeshSettings:
    """What is set for all. `installed` is False on a cluster without a mesh: then no policy counts."""

    root_namespace: str = ROOT_NAMESPACE
    trust_domain: str = TRUST_DOMAIN
    trust_domain_aliases: tuple[str, ...] = ()
    auto_mtls: bool = True
    outbound_policy: str = ALLOW_ANY
    revision: str = DEFAULT_REVISION
    installed: bool = True
    any_revision: bool = False
    """Whether there is a control plane for every revision that a label names: files do not tell which there are."""
    config_map: str = "istio"
    """The name of the ConfigMap, for deciding objects."""


def read_settings(
    values: Mapping[str, Any],
    *,
    root_namespace: str = ROOT_NAMESPACE,
    revision: str = DEFAULT_REVISION,
    installed: bool = True,
) -> MeshSettings:
    """The settings from what the ConfigMap's `mesh` holds; what it does not name has Istio's default."""
    revision = revision or DEFAULT_REVISION
    return MeshSettings(
        root_namespace=str(values.get("rootNamespace") or root_namespace),
        trust_domain=str(values.get("trustDomain") or TRUST_DOMAIN),
        trust_domain_aliases=tuple(str(one) for one in values.get("trustDomainAliases") or ()),
        auto_mtls=values.get("enableAutoMtls", True) is not False,
        outbound_policy=str((values.get("outboundTrafficPolicy") or {}).get("mode") or ALLOW_ANY),
        revision=revision,
        installed=installed,
        config_map="istio" if revision == DEFAULT_REVISION else f"istio-{revision}",
    )
