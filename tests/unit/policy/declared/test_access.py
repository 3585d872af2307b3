"""Who is let in, where the request itself is not known: yes, no, or it depends (Kleene's logic)."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy.authorization import Request, parse_authorization_policy
from labkit.policy.declared.access import MAYBE, NO, YES, Access, access
from labkit.policy.declared.judging import TOLD

CALLER = Request(principal="cluster.local/ns/foo/sa/client", port=8080, path="/a", method="GET")
SOURCE: dict[str, Any] = {"from": [{"source": {"namespaces": ["foo"]}}]}
OTHERS: dict[str, Any] = {"from": [{"source": {"namespaces": ["bar"]}}]}


def policy(action: str, *rules: Any, name: str = "test") -> Any:
    spec: dict[str, Any] = {"action": action}
    if rules:
        spec["rules"] = list(rules)
    return parse_authorization_policy({"metadata": {"name": name, "namespace": "foo"}, "spec": spec})


def path(value: str) -> dict[str, Any]:
    return {"to": [{"operation": {"paths": [value]}}]}


def ask(*policies: Any, request: Request = CALLER, told: bool = False) -> Access:
    return access(policies, request, TOLD if told else frozenset())


@pytest.mark.parametrize(
    ("policies", "unknown", "known"),
    [
        pytest.param([], YES, YES, id="no policy"),
        pytest.param([policy("ALLOW")], NO, NO, id="allow nothing"),
        pytest.param([policy("ALLOW", {})], YES, YES, id="allow everything"),
        pytest.param([policy("ALLOW", SOURCE)], YES, YES, id="who is known"),
        pytest.param([policy("ALLOW", OTHERS)], NO, NO, id="and is somebody else"),
        pytest.param([policy("ALLOW", path("/a"))], MAYBE, YES, id="what is asked is not, and fits"),
        pytest.param([policy("ALLOW", path("/b"))], MAYBE, NO, id="and does not fit"),
        pytest.param([policy("ALLOW", {**OTHERS, **path("/a")})], NO, NO, id="both must hold: one does not"),
        pytest.param([policy("ALLOW", path("/b"), SOURCE)], YES, YES, id="one rule is enough"),
        pytest.param([policy("DENY", SOURCE)], NO, NO, id="denied"),
        pytest.param([policy("DENY", path("/a"))], MAYBE, NO, id="perhaps denied"),
        pytest.param([policy("DENY", path("/b"))], MAYBE, YES, id="perhaps denied, and not"),
        pytest.param([policy("DENY", OTHERS)], YES, YES, id="others are denied"),
        pytest.param([policy("DENY", path("/a")), policy("ALLOW", OTHERS)], NO, NO, id="denied or not, not allowed"),
        pytest.param([policy("AUDIT", SOURCE)], YES, YES, id="only logged"),
        pytest.param([policy("CUSTOM", SOURCE)], NO, NO, id="a provider that does not exist"),
    ],
)
def test_the_answers(policies: list[Any], unknown: int, known: int) -> None:
    assert ask(*policies).answer == unknown
    assert ask(*policies, told=True).answer == known


def test_without_a_certificate_there_is_no_principal() -> None:
    found = ask(policy("ALLOW", SOURCE), request=Request(port=8080))
    assert found.answer == NO and "shows no certificate" in found.reason


def test_addresses_that_nobody_has_yet() -> None:
    near = {"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]}
    assert ask(policy("ALLOW", near)).answer == MAYBE
    assert ask(policy("ALLOW", near), request=Request(source_ip="10.1.1.1")).answer == YES
    assert ask(policy("ALLOW", near), request=Request(source_ip="192.168.1.1")).answer == NO


def test_on_bytes_conditions_of_http_fall_away() -> None:
    raw = Request(principal=CALLER.principal, port=8080, http=False)
    assert ask(policy("ALLOW", path("/a")), request=raw).answer == NO, "a rule of ALLOW falls away whole"
    assert ask(policy("DENY", path("/a")), request=raw).answer == NO, "of DENY only the condition"


def test_the_policy_that_decides_is_named() -> None:
    found = ask(policy("ALLOW", SOURCE, name="first"), policy("DENY", SOURCE, name="second"))
    assert str(found.policy) == "AuthorizationPolicy foo/second"
