"""The analysis as a whole: schemas, expressions, wrong forms, suppression, order, words and links."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.policy import analysis
from labkit.policy.analysis import CODES, ISTIO, KINDS_READ, Level, Mesh, Message, analyze
from tests.published.analysis_objects import Object, an, messages, namespace, pod, route, said, service
from tests.unit.policy.test_analysis_kiali import OLD as KIALI_OLD
from tests.unit.policy.test_analysis_kiali import ROWS as KIALI_ROWS


def http(*routes: Object) -> Object:
    return an("VirtualService", "shop/web", {"hosts": ["web"], "http": [*routes]})


TO = {"route": [{"destination": {"host": "web"}}]}


def test_what_the_webhook_refuses_and_warns_of() -> None:
    wrong = an("PeerAuthentication", "shop/default", {"portLevelMtls": {80: {"mode": "STRICT"}}})
    assert [one.line() for one in messages([wrong], "IST0106")] == [
        "Error [IST0106] (PeerAuthentication shop/default) Schema validation error: mesh/namespace peer authentication "
        "cannot have port level mTLS"
    ]
    assert not messages([an("PeerAuthentication", "shop/default", {"mtls": {"mode": "STRICT"}})], "IST0106")
    tls = {"mode": "SIMPLE", "credentialName": "x", "cipherSuites": ["nonsense"]}
    servers = [{"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"], "tls": tls}]
    warned = an("Gateway", "shop/gw", {"servers": servers})
    assert messages([warned], "IST0133")
    del tls["cipherSuites"]
    assert not messages([warned], "IST0133")


def test_rules_that_are_never_reached() -> None:
    """virtualservice_dupmatches.yaml of istio/istio: both codes, and no other warning."""
    match = [{"uri": {"prefix": "/api"}}]
    found = messages([http({**TO, "match": match}, {**TO, "match": match})], "IST0130", "IST0131", "IST0133")
    assert [(one.code.code, one.text) for one in found] == [
        ("IST0130", "VirtualService rule #1 not used (all matches used by prior rules)."),
        ("IST0131", "VirtualService rule #1 match #0 is not used (duplicate/overlapping match in rule #0)."),
    ]
    assert messages([http(TO, TO)], "IST0130")
    assert not messages([http({**TO, "match": match}, TO)], "IST0130", "IST0131", "IST0133")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("(", "missing closing )"), ("(?!x)", "invalid or unsupported Perl syntax"), ("/api/.*", "")],
)
def test_regular_expressions(pattern: str, words: str) -> None:
    found = messages([http({**TO, "match": [{"uri": {"regex": pattern}}]})], "IST0122")
    assert [words in one.text for one in found] == ([True] if words else [])


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (an("Service", "shop/web", {"ports": "http"}), "spec.ports must be a list, and is 'http'"),
        (an("Service", "shop/web", {"ports": [{"port": "80"}]}), "spec.ports.port must be a number, and is '80'"),
        (an("Gateway", "shop/gw", {"selector": "app=gw"}), "spec.selector must be an object"),
        (an("VirtualService", "shop/v", {"http": [None, "x"]}), "spec.http must be an object, and is None"),
        (an("PeerAuthentication", "shop/p", {"mtls": "STRICT"}), "spec.mtls must be an object"),
        (an("AuthorizationPolicy", "shop/a", {"rules": {"from": []}}), "spec.rules must be a list"),
        ({**an("Pod", "shop/p"), "spec": []}, "spec must be an object"),
        ({**an("Namespace", "n"), "metadata": {"name": "n", "labels": ["x"]}}, "metadata.labels must be an object"),
    ],
)
def test_an_object_of_a_wrong_form_is_said_and_disturbs_no_other(obj: Object, words: str) -> None:
    other = http(TO)
    found = messages([obj, other])
    assert any(one.code.code == "IST0106" and words in one.text for one in found)
    alone = {one.line() for one in messages([other])}
    assert alone <= {one.line() for one in found}


def test_nothing_is_said_of_nothing() -> None:
    assert analyze([]) == []
    assert analyze([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}]) == []
    assert (
        analyze([an(kind, "shop/empty") for kind in KINDS_READ if kind not in ("Gateway", "VirtualService")])
        is not None
    )


def test_codes_can_be_suppressed_on_an_object() -> None:
    """https://istio.io/latest/docs/ops/diagnostic-tools/istioctl-analyze/#ignoring-specific-analyzer-messages"""
    lonely = an("VirtualService", "shop/v", route("nobody"))
    assert said([lonely], "IST0101") == ["IST0101 VirtualService shop/v"]
    key = "galley.istio.io/analyze-suppress"
    for codes, left in (("IST0101, IST0107", []), ("*", []), ("IST0107", ["IST0101 VirtualService shop/v"])):
        lonely["metadata"]["annotations"] = {key: codes}
        assert said([lonely], "IST0101") == left


def test_the_worst_comes_first() -> None:
    objects = [
        namespace("shop"),
        http({"route": [{"destination": {"host": "nobody"}}]}),
        service("shop/w", {"port": 1}),
    ]
    levels = [one.level for one in messages(objects)]
    assert levels == sorted(levels, reverse=True) and {Level.ERROR, Level.INFO} <= set(levels)


def test_templates_count_as_the_pods_that_they_will_create() -> None:
    """istioctl finds no pods in files; a directory of manifests has Deployments."""

    def policy(app: str) -> Object:
        return an("AuthorizationPolicy", "shop/a", {"selector": {"matchLabels": {"app": app}}})

    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}}
    web = an("Deployment", "shop/web", {"selector": {"matchLabels": {"app": "web"}}, "template": template})
    injected = namespace("shop", **{"istio.io/rev": "canary"})
    assert not messages([injected, web, policy("web")], "IST0127", any_revision=True)
    assert messages([injected, web, policy("wbe")], "IST0127", any_revision=True)
    assert messages([namespace("shop"), web, policy("web")], "IST0127", any_revision=True)
    outside = pod("shop/web-1", app="web")
    assert messages([injected, web, outside, policy("web")], "IST0127", revision="other")


def test_links_lead_to_the_pages_of_the_tools() -> None:
    assert CODES["IST0101"].link == "https://istio.io/latest/docs/reference/config/analysis/ist0101/"
    assert CODES["KIA0101"].link == (
        "https://kiali.io/docs/features/validations/#kia0101---namespace-not-found-for-this-rule"
    )


ROWS = "".join(
    path.read_text() for path in Path(__file__).parents[2].joinpath("published").glob("test_analysis*rows.py")
)


@pytest.mark.parametrize("code", [code for code, one in CODES.items() if one.tool == ISTIO])
def test_every_code_of_istioctl_has_a_row(code: str) -> None:
    here = Path(__file__).read_text()
    assert f'"{code}"' in ROWS or f'"{code}"' in here or f"{code} " in ROWS


def test_missing_secrets_are_not_guessed_at() -> None:
    """Files often leave Secrets out, and not everybody may read them."""
    tls: dict[str, Any] = {"mode": "SIMPLE", "credentialName": "web"}
    servers = [{"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"], "tls": tls}]
    gateway = an("Gateway", "shop/gw", {"selector": {"istio": "ingressgateway"}, "servers": servers})
    other = an("Secret", "istio-system/other")
    assert not messages([gateway], "IST0101")
    assert messages([gateway, other], "IST0101")
    running = [gateway, pod("istio-system/gw", {"istio": "ingressgateway"})]
    assert [one.code.code for one in analyze(running) if one.code.code == "IST0101"] == ["IST0101"]
    assert not [one for one in analyze(running, secrets_known=False) if one.code.code == "IST0101"]


# -- files may hold anything

JUNK: tuple[Any, ...] = (None, "", 0, -1, 1.5, True, [], {}, "x", ["x"], [None], {"a": 1}, [[]], [{}], "1", "*")
WELL = [
    *(obj for row in (*KIALI_ROWS, *KIALI_OLD) for part in row[1:] for obj in part),
    http({**TO, "match": [{"uri": {"regex": "/x"}, "headers": {"a": {"exact": "b"}}}]}),
    service("shop/web", 80),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield (*path, key)
        yield from places(one, (*path, key))


def test_junk_in_any_field_disturbs_nobody() -> None:
    """Each object is analyzed with junk in some field, beside others that are well."""
    chance = random.Random(20260101)
    for _ in range(600):
        objects = copy.deepcopy(chance.sample(WELL, 5))
        spoilt = chance.choice(objects)
        *way, last = chance.choice([path for path in places(spoilt) if path != ("kind",)])
        inside: Any = spoilt
        for key in way:
            inside = inside[key]
        inside[last] = copy.deepcopy(chance.choice(JUNK))
        found = analyze(objects, from_files=True)
        assert "IST0001" not in {one.code.code for one in found}, spoilt


def test_a_rule_that_cannot_be_followed_is_said_and_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(mesh: Mesh) -> Iterator[Message]:
        raise KeyError("oops")

    monkeypatch.setattr(analysis, "RULES", (broken, *analysis.RULES))
    monkeypatch.setattr(analysis, "unreadable_because", lambda _: "")
    codes = [one.code.code for one in analyze([http({"route": [{"destination": {"host": "nobody"}}]})])]
    assert "IST0001" in codes and "IST0101" in codes
