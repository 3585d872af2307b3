"""Kiali's codes: for each a row that fires and a twin that must not.

Conditions: business/checkers of kiali/kiali; https://kiali.io/docs/features/validations/
"""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy.analysis import CODES, KIALI
from labkit.policy.analysis.kiali_mtls import DISABLED, ENABLED, NOT_ENABLED, PARTIALLY, mtls_status
from tests.published.analysis_objects import Object, an, deployment, messages, namespace, pod, route, server, service

NAMESPACE_WIDE = "*.shop.svc.cluster.local"


def policy(mode: str, where: str = "shop/default", **labels: str) -> Object:
    selector = {"selector": {"matchLabels": labels}} if labels else {}
    return an("PeerAuthentication", where, {"mtls": {"mode": mode}, **selector})


def rule(host: str, mode: str = "", where: str = "shop/rule", **spec: Any) -> Object:
    tls = {"trafficPolicy": {"tls": {"mode": mode}}} if mode else {}
    return an("DestinationRule", where, {"host": host, **tls, **spec})


def authz(where: str = "shop/authz", **rule: Any) -> Object:
    return an("AuthorizationPolicy", where, {"rules": [rule]})


def caller(**source: list[str]) -> Object:
    return an("AuthorizationPolicy", "shop/authz", {"rules": [{"from": [{"source": source}]}]})


def asked(**operation: list[str]) -> Object:
    return authz(to=[{"operation": operation}])


def mesh_wide(mode: str) -> Object:
    return policy(mode, "istio-system/default")


def weighted(*parts: tuple[str, int]) -> Object:
    routes = [{"destination": {"host": "web", "subset": subset}, "weight": weight} for subset, weight in parts]
    return an("VirtualService", "shop/v", {"hosts": ["web"], "http": [{"route": routes}]})


WEB = [service("shop/web", 80, selector={"app": "web"}), pod("shop/web-1", app="web", version="v1")]
SUBSETS = [{"name": "v1", "labels": {"version": "v1"}}]
MUTUAL = rule(NAMESPACE_WIDE, "ISTIO_MUTUAL", "shop/wide")
EVERYWHERE = rule("*.local", "ISTIO_MUTUAL", "istio-system/wide")
GATEWAY = an("Gateway", "shop/gw", {"selector": {"app": "gw"}, "servers": [server(80, "a.example.com")]})


# (code, what fires, what does not), with auto mTLS on
ROWS: list[tuple[str, list[Object], list[Object]]] = [
    ("KIA0002", [policy("STRICT"), policy("STRICT", "shop/other")], [policy("STRICT"), policy("STRICT", "b/other")]),
    (
        "KIA0003",
        [*WEB, policy("STRICT", "shop/a", app="web"), policy("STRICT", "shop/b", version="v1")],
        [*WEB, policy("STRICT", "shop/a", app="web"), policy("STRICT", "shop/b")],
    ),
    ("KIA0004", [*WEB, policy("STRICT", "shop/a", app="wbe")], [*WEB, policy("STRICT", "shop/a", app="web")]),
    ("KIA0005", [*WEB, rule("web", exportTo=["nowhere"])], [*WEB, rule("web", exportTo=["shop", ".", "*"])]),
    ("KIA0101", [caller(namespaces=["nowhere"])], [caller(namespaces=["shop", "sh*"])]),
    ("KIA0102", [asked(methods=["GTE"])], [asked(methods=["GET", "P*", "*"])]),
    ("KIA0104", [*WEB, asked(hosts=["wbe.shop"])], [*WEB, asked(hosts=["web", "web.shop", "*.local", "*"])]),
    (
        "KIA0104",
        [asked(hosts=["b.example.com"])],
        [asked(hosts=["b.example.com"]), an("VirtualService", "shop/v", {"hosts": ["*.example.com"]})],
    ),
    ("KIA0105", [caller(principals=["*"]), policy("DISABLE")], [caller(principals=["*"]), policy("STRICT")]),
    ("KIA0105", [authz(when=[{"key": "source.principal"}]), policy("DISABLE")], [caller(ipBlocks=["1.2.3.4"])]),
    ("KIA0105", [caller(namespaces=["shop"]), mesh_wide("DISABLE")], [caller(namespaces=["shop"])]),
    (
        "KIA0106",
        [*WEB, caller(principals=["cluster.local/ns/shop/sa/nobody"])],
        [
            *WEB,
            an("ServiceAccount", "shop/web"),
            caller(principals=["cluster.local/ns/shop/sa/web", "*/sa/default", "other.domain/ns/x/sa/y", "*"]),
        ],
    ),
    (
        "KIA0201",
        [*WEB, rule("web", "SIMPLE", "shop/a"), rule("web.shop.svc.cluster.local", "SIMPLE", "shop/b")],
        [*WEB, rule("web", "SIMPLE", "shop/a"), MUTUAL],
    ),
    (
        "KIA0201",
        [*WEB, rule("web", "", "shop/a", subsets=SUBSETS), rule("web", "", "shop/b", subsets=SUBSETS)],
        [*WEB, rule("web", "", "shop/a", subsets=SUBSETS), rule("web", "", "shop/b", subsets=[{"name": "v2"}])],
    ),
    ("KIA0202", [*WEB, rule("wbe")], [*WEB, rule("web"), rule("web.shop", "", "b/rule"), rule("*.local", "", "c/r")]),
    (
        "KIA0203",
        [*WEB, rule("web", subsets=[{"name": "v2", "labels": {"version": "v2"}}])],
        [*WEB, rule("web", subsets=SUBSETS)],
    ),
    ("KIA0204", [*WEB, rule("web"), MUTUAL], [*WEB, rule("web", "DISABLE"), MUTUAL]),
    (
        "KIA0204",
        [*WEB, rule("web"), EVERYWHERE],
        [*WEB, rule("web"), rule("*.other.svc.cluster.local", "ISTIO_MUTUAL")],
    ),
    (
        "KIA0207",
        [rule(NAMESPACE_WIDE, "DISABLE"), policy("STRICT")],
        [rule(NAMESPACE_WIDE, "DISABLE"), policy("PERMISSIVE")],
    ),
    (
        "KIA0208",
        [rule("*.local", "DISABLE"), mesh_wide("STRICT")],
        [rule("*.local", "DISABLE"), mesh_wide("PERMISSIVE")],
    ),
    (
        "KIA0208",
        [rule(NAMESPACE_WIDE, "DISABLE"), mesh_wide("STRICT")],
        [rule(NAMESPACE_WIDE, "DISABLE"), mesh_wide("STRICT"), policy("PERMISSIVE")],
    ),
    ("KIA0209", [*WEB, rule("web", subsets=[{"name": "v1"}])], [*WEB, rule("web", subsets=SUBSETS)]),
    (
        "KIA0301",
        [GATEWAY, an("Gateway", "b/gw", {"selector": {"app": "gw"}, "servers": [server(80, "*.example.com")]})],
        [GATEWAY, an("Gateway", "b/gw", {"selector": {"app": "gw"}, "servers": [server(443, "*.example.com")]})],
    ),
    ("KIA0302", [GATEWAY], [GATEWAY, pod("b/gw", app="gw")]),
    ("KIA0505", [policy("DISABLE"), MUTUAL], [policy("PERMISSIVE"), MUTUAL]),
    (
        "KIA0505",
        [policy("DISABLE"), EVERYWHERE],
        [policy("DISABLE"), EVERYWHERE, rule(NAMESPACE_WIDE, "DISABLE")],
    ),
    ("KIA0506", [mesh_wide("DISABLE"), EVERYWHERE], [mesh_wide("PERMISSIVE"), EVERYWHERE]),
    (
        "KIA0601",
        [service("shop/w", {"port": 80, "name": "web"}, selector={"app": "w"}), pod("shop/w", proxy=True, app="w")],
        [service("shop/w", {"port": 80, "name": "web"}, selector={"app": "w"}), pod("shop/w", app="w")],
    ),
    (
        "KIA0602",
        [
            service("shop/w", {"port": 80, "appProtocol": "web"}, selector={"app": "w"}),
            pod("shop/w", proxy=True, app="w"),
        ],
        [
            service("shop/w", {"port": 80, "appProtocol": "http"}, selector={"app": "w"}),
            pod("shop/w", proxy=True, app="w"),
        ],
    ),
    (
        "KIA0701",
        [service("shop/w", 80, selector={"app": "w"}), deployment("shop/w", app="w")],
        [
            service("shop/w", {"port": 80, "targetPort": "main"}, selector={"app": "w"}),
            deployment(
                "shop/w",
                app="w",
                spec={"containers": [{"name": "w", "ports": [{"containerPort": 8080, "name": "main"}]}]},
            ),
        ],
    ),
    (
        "KIA1006",
        [an("Sidecar", "istio-system/default", {"workloadSelector": {"labels": {"app": "x"}}})],
        [
            an("Sidecar", "istio-system/default"),
            an("Sidecar", "shop/x", {"workloadSelector": {"labels": {"app": "x"}}}),
        ],
    ),
    (
        "KIA1101",
        [*WEB, an("VirtualService", "shop/v", route("wbe"))],
        [*WEB, an("VirtualService", "shop/v", route("web.shop"))],
    ),
    (
        "KIA1102",
        [an("VirtualService", "shop/v", {"gateways": ["gw2"]})],
        [GATEWAY, an("VirtualService", "shop/v", {"gateways": ["gw", "mesh", "shop/gw"]})],
    ),
    ("KIA1104", [weighted(("v1", 50))], [weighted(("v1", 100))]),
    ("KIA1105", [weighted(("v1", 50), ("v1", 50))], [weighted(("v1", 50), ("v2", 50))]),
    (
        "KIA1106",
        [an("VirtualService", "shop/a", {"hosts": ["web"]}), an("VirtualService", "b/b", {"hosts": ["web.shop"]})],
        [an("VirtualService", "shop/a", {"hosts": ["web"]}), an("VirtualService", "b/b", {"hosts": ["web"]})],
    ),
    (
        "KIA1107",
        [*WEB, an("VirtualService", "shop/v", route("web+v2")), rule("web", subsets=SUBSETS)],
        [*WEB, an("VirtualService", "shop/v", route("web+v1")), rule("web", subsets=SUBSETS)],
    ),
]


@pytest.mark.parametrize(("code", "fires", "silent"), ROWS, ids=[f"{row[0]}-{n}" for n, row in enumerate(ROWS)])
def test_each_code_and_its_twin(code: str, fires: list[Object], silent: list[Object]) -> None:
    around = [namespace("shop"), namespace("b")]
    assert messages([*around, *fires], code), "it must fire"
    assert not messages([*around, *silent], code), "it must not fire"


# Before auto mTLS these were needed; where it is on, Kiali says nothing of them.
OLD: list[tuple[str, list[Object], list[Object]]] = [
    ("KIA0205", [EVERYWHERE], [EVERYWHERE, mesh_wide("PERMISSIVE")]),
    ("KIA0206", [MUTUAL], [MUTUAL, policy("STRICT")]),
    ("KIA0401", [mesh_wide("STRICT")], [mesh_wide("STRICT"), EVERYWHERE]),
    ("KIA0501", [policy("STRICT")], [policy("STRICT"), MUTUAL]),
]


@pytest.mark.parametrize(("code", "fires", "silent"), OLD)
def test_codes_without_auto_mtls(code: str, fires: list[Object], silent: list[Object]) -> None:
    assert messages(fires, code, auto_mtls=False)
    assert not messages(silent, code, auto_mtls=False)
    assert not messages(fires, code, auto_mtls=True)


def test_every_code_of_kiali_has_a_row() -> None:
    known = {code for code, one in CODES.items() if one.tool == KIALI}
    assert known == {row[0] for row in (*ROWS, *OLD)}


# util/mtls/status.go finalStatus, where PERMISSIVE is enough (AllowPermissive)
@pytest.mark.parametrize(
    ("policy_mode", "rule_mode", "auto", "status"),
    [
        ("STRICT", "", True, ENABLED),
        ("STRICT", "", False, PARTIALLY),
        ("STRICT", "ISTIO_MUTUAL", False, ENABLED),
        ("PERMISSIVE", "", True, ENABLED),
        ("STRICT", "DISABLE", True, PARTIALLY),
        ("DISABLE", "DISABLE", True, DISABLED),
        ("DISABLE", "", True, DISABLED),
        ("DISABLE", "", False, PARTIALLY),
        ("", "", True, NOT_ENABLED),
        ("", "DISABLE", True, DISABLED),
        ("", "ISTIO_MUTUAL", True, ENABLED),
        ("", "ISTIO_MUTUAL", False, PARTIALLY),
    ],
)
def test_status_of_a_namespace(policy_mode: str, rule_mode: str, auto: bool, status: str) -> None:
    assert mtls_status(policy_mode, rule_mode, auto) == status
