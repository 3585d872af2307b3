"""Fields that no schema names are found, and those of every manifest here are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from labkit.installers.fields import nearest_kind, unknown_fields, unknown_kind

ROOT = Path(__file__).parents[3]


def an(kind: str, group: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}


@pytest.mark.parametrize(
    ("obj", "unknown"),
    [
        (an("PeerAuthentication", "security", mtls={"mode": "STRICT"}), []),
        (an("PeerAuthentication", "security", mtsl={"mode": "STRICT"}), ["spec.mtsl"]),
        (an("PeerAuthentication", "security", mtls={"Mode": "STRICT"}), ["spec.mtls.Mode"]),
        (an("PeerAuthentication", "security", portLevelMtls={8080: {"mode": "STRICT"}}), []),
        (an("PeerAuthentication", "security", portLevelMtls={8080: {"mod": 1}}), ["spec.portLevelMtls.8080.mod"]),
        (an("PeerAuthentication", "example", mtsl={}), []),
        (an("VirtualService", "networking", http=[{"rout": []}]), ["spec.http[0].rout"]),
        (an("PeerAuthentication", "security", mtls="STRICT"), []),
        ({"apiVersion": "v1", "kind": "Pod", "spec": {"what": 1}}, []),
    ],
)
def test_unknown_fields(obj: dict[str, Any], unknown: list[str]) -> None:
    assert unknown_fields(obj) == unknown


def test_the_manifests_here_have_none() -> None:
    seen = 0
    for path in sorted((ROOT / "manifests").rglob("*.yaml")):
        for obj in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if obj and ".istio.io" in str(obj.get("apiVersion")):
                seen += 1
                assert unknown_fields(obj) == [], path
    assert seen > 20


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        (
            an("PeerAuthentification", "security"),
            "security.istio.io has no kind PeerAuthentification (Did you mean the kind PeerAuthentication of "
            "security.istio.io?)",
        ),
        (
            an("PeerAuthentication", "networking"),
            "networking.istio.io has no kind PeerAuthentication (Did you mean the kind PeerAuthentication of "
            "security.istio.io?)",
        ),
        (an("Lighthouse", "security"), "security.istio.io has no kind Lighthouse"),
        (an("PeerAuthentication", "security"), ""),
        ({"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator"}, ""),
        ({"apiVersion": "apps/v1", "kind": "Deploiment"}, ""),
    ],
)
def test_kinds_that_istio_does_not_have(obj: dict[str, Any], said: str) -> None:
    assert unknown_kind(obj) == said


def test_the_kind_that_was_meant() -> None:
    assert nearest_kind(an("Virtualservice", "networking")) == (
        "Did you mean the kind VirtualService of networking.istio.io?"
    )
    assert nearest_kind(an("Lighthouse", "networking")) == ""
