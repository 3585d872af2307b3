"""The judges: each passes on the evidence of its lesson, and fails on its opposite."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from labkit.checks import CHECKS, find_check
from labkit.errors import InputError
from labkit.observe.mesh import MeshStatus
from labkit.outcomes import Observation, Outcome, Probe, Verdict
from labkit.pki import CertificateAuthority, describe_certificate
from labkit.views.tables import make_table
from tests.unit.observe.builders import namespace, pod

REPLY = '{"model": "m", "reply": "r"}'
RESET = "curl: (56) Recv failure: Connection reset by peer"
INSTALLED = MeshStatus(
    installed=True, namespace="istio-system", revision="default", istiod="istiod", istiod_ready=True,
    kinds=("PeerAuthentication",), knows_peer_authentication=True, webhooks=("injector",), webhook_has_ca=True,
)  # fmt: skip
NO_MESH = MeshStatus()


def probed(client: str, **facts: Any) -> Observation:
    return Observation(probe=Probe(client, "azureopenai/chatbackend-service", 5000), **facts)


def test_words_between_backticks_are_code_on_a_page() -> None:
    page = find_check("00-count-containers").pending()._repr_html_()
    assert "<code>...</code>" in page and "`" not in page


def outside(**facts: Any) -> Observation:
    return probed("default/curl-outside", **facts)


def inside(**facts: Any) -> Observation:
    return probed("azureopenai/chatfrontend", **facts)


def chat_pods(*, injected: bool = False, count: int = 2, ready: bool = True) -> list[dict[str, Any]]:
    apps = ("chatbackend", "chatfrontend")
    return [pod(f"{app}-abc-{n}", injected=injected, ready=ready) for app in apps for n in range(count)]


def modes(mode: str, decided_by: str) -> list[dict[str, str]]:
    return [{"WORKLOAD": "chatbackend", "SIDECAR": "yes", "MODE": mode, "DECIDED BY": decided_by}]


REFUSED = {"outcome": Outcome.REFUSED, "exit_code": 56, "error": RESET}
NODE = {"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
NOBODY = "the default (no policy decides)"
POLICY = "PeerAuthentication azureopenai/x (namespace-wide)"
SOMETHING = object()  # an attempt; what came of it is collected beside it

PASSES = [
    ("00-cluster-answers", ("v1.33", [NODE])),
    ("00-no-mesh", (NO_MESH,)),
    ("00-count-containers", (1,)),
    ("01-kind-unknown", (NO_MESH,)),
    ("01-pods-plain", ([pod("curl-outside-1")],)),
    ("01-mesh-installed", (INSTALLED,)),
    ("01-kinds-served", (INSTALLED,)),
    ("01-webhook-registered", (INSTALLED,)),
    ("01-first-policy", (SOMETHING, "STRICT")),
    ("02-plain-pods", (chat_pods(),)),
    ("02-namespace-labelled", (namespace("azureopenai", **{"istio.io/rev": "default"}),)),
    ("02-running-pods-unchanged", (chat_pods(),)),
    ("02-injected-pods", (chat_pods(injected=True),)),
    ("02-inside-the-pod", (chat_pods(injected=True),)),
    ("00-first-pod", ([pod("curl-outside-1")],)),
    ("02-outside-not-injected", ([pod("curl-outside-1")],)),
    ("02-mesh-request", (inside(http_status=200, outcome=Outcome.MTLS),)),
    ("02-inside-client", (SOMETHING, [pod("curl-inside-1", injected=True)])),
    ("03-permissive", (modes("PERMISSIVE", NOBODY),)),
    ("03-plaintext-accepted", (outside(http_status=200, body=REPLY),)),
    ("03-mesh-client-accepted", (inside(http_status=200, body=REPLY),)),
    ("03-opt-out", (SOMETHING, [pod("curl-plain-1")], outside(http_status=200, outcome=Outcome.PLAINTEXT))),
    ("04-strict-declared", (modes("STRICT", POLICY),)),
    ("04-plaintext-refused", (outside(**REFUSED),)),
    ("04-mesh-client-accepted", (inside(http_status=200, body=REPLY, outcome=Outcome.MTLS),)),
    ("04-prediction", (Verdict(Outcome.REFUSED, exit_code=56), outside(**REFUSED))),
    ("04-one-port", (SOMETHING, outside(http_status=200), outside(**REFUSED))),
]

FAILS = [
    ("00-cluster-answers", ("v1.33", []), "no node"),
    ("00-no-mesh", (INSTALLED,), "istiod in istio-system"),
    ("00-count-containers", (2,), "2"),
    ("01-kind-unknown", (INSTALLED,), "serves PeerAuthentication"),
    ("01-pods-plain", ([pod("curl-outside-1", injected=True)],), "2/2"),
    ("01-pods-plain", ([],), "no pods"),
    ("01-mesh-installed", (NO_MESH,), "no istiod"),
    ("01-kinds-served", (NO_MESH,), "none of Istio's kinds"),
    ("01-webhook-registered", (NO_MESH,), "no injection webhook"),
    ("01-webhook-registered", (MeshStatus(webhooks=("x",)),), "without a CA bundle"),
    ("01-first-policy", (SOMETHING, "PERMISSIVE"), "PERMISSIVE"),
    ("02-plain-pods", (chat_pods(injected=True),), "2/2"),
    ("02-plain-pods", (chat_pods(count=1),), "1/1"),
    ("02-namespace-labelled", (namespace("azureopenai"),), "neither label"),
    ("02-namespace-labelled",
     (namespace("a", **{"istio.io/rev": "x", "istio-injection": "disabled"}),), "disabled"),
    ("02-running-pods-unchanged", (chat_pods(injected=True),), "2/2"),
    ("02-injected-pods", (chat_pods(),), "1/1"),
    ("02-injected-pods", (chat_pods(injected=True, ready=False),), "0/2"),
    ("02-inside-the-pod", (chat_pods(),), "has no istio-proxy"),
    ("02-inside-the-pod", ([],), "no chat pods"),
    ("00-first-pod", ([],), "no pods"),
    ("02-outside-not-injected", ([pod("curl-outside-1", injected=True)],), "2/2"),
    ("02-mesh-request", (inside(**REFUSED),), "reset by peer"),
    ("02-mesh-request", (inside(http_status=200, outcome=Outcome.PLAINTEXT),), "in plaintext"),
    ("02-mesh-request", (outside(http_status=200),), "default/curl-outside"),
    ("02-inside-client", (SOMETHING, [pod("curl-inside-1")]), "1/1"),
    ("03-permissive", (modes("STRICT", POLICY),), "STRICT"),
    ("03-permissive", (modes("PERMISSIVE", POLICY),), POLICY),
    ("03-permissive", ([],), "no workloads"),
    ("03-plaintext-accepted", (outside(**REFUSED),), "reset by peer"),
    ("03-plaintext-accepted", (outside(http_status=200, body="{}"),), "HTTP 200"),
    ("03-plaintext-accepted", (inside(http_status=200, body=REPLY),), "azureopenai/chatfrontend"),
    ("03-mesh-client-accepted", (inside(http_status=503),), "503"),
    ("03-opt-out", (SOMETHING, [pod("curl-plain-1", injected=True)], None), "2/2"),
    ("04-strict-declared", (modes("PERMISSIVE", NOBODY),), "PERMISSIVE"),
    ("04-strict-declared", ([],), "no workloads"),
    ("04-plaintext-refused", (outside(http_status=200, body=REPLY),), "HTTP 200"),
    ("04-plaintext-refused", (outside(exit_code=7, error="curl: (7) Failed to connect"),), "curl exit 7"),
    ("04-plaintext-refused", (inside(**REFUSED),), "azureopenai/chatfrontend"),
    ("04-mesh-client-accepted", (inside(**REFUSED),), "reset by peer"),
    ("04-prediction", (Verdict(Outcome.PLAINTEXT, http_status=200), outside(**REFUSED)), "reset by peer"),
    ("04-one-port", (SOMETHING, outside(**REFUSED), outside(**REFUSED)), "reset by peer"),
    ("04-one-port", (SOMETHING, outside(http_status=200), outside(http_status=200)), "HTTP 200"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "evidence"), PASSES, ids=[row[0] for row in PASSES])
def test_a_check_passes_on_its_effect(name: str, evidence: tuple[Any, ...]) -> None:
    result = find_check(name).result(*evidence)
    assert result.passed, str(result)
    assert str(result) == f"✔ {name}: passed"


@pytest.mark.parametrize(
    ("name", "evidence", "observed"), FAILS, ids=[f"{row[0]} sees {row[2]}" for row in FAILS]
)  # fmt: skip
def test_a_check_fails_when_the_effect_is_absent(name: str, evidence: tuple[Any, ...], observed: str) -> None:
    result = find_check(name).result(*evidence)
    assert not result.passed
    assert not result.pending
    assert observed in result.observed
    assert result.expected and result.hint


def certificate(spiffe_id: str, ttl: timedelta = timedelta(hours=24), **times: Any) -> Any:
    leaf = CertificateAuthority.self_signed().issue(spiffe_id=spiffe_id, ttl=ttl, **times)
    return describe_certificate(leaf.cert_pem)


def test_a_certificate_of_the_namespace_passes() -> None:
    assert find_check("03-certificate").result(certificate("spiffe://td/ns/azureopenai/sa/default"))


@pytest.mark.parametrize(
    "evidence",
    [
        pytest.param(certificate("spiffe://td/ns/other/sa/default"), id="of another namespace"),
        pytest.param(certificate(""), id="without a SPIFFE ID"),
        pytest.param(
            certificate("spiffe://td/ns/azureopenai/sa/default", timedelta(hours=1),
                        not_before=datetime.now(UTC) - timedelta(days=2)), id="expired"),
    ],
)  # fmt: skip
def test_any_other_certificate_fails(evidence: Any) -> None:
    assert not find_check("03-certificate").result(evidence)


def test_a_table_is_as_good_as_the_pods_themselves() -> None:
    rows = [(p["metadata"]["name"], "1/1", "Running") for p in chat_pods()]
    assert find_check("02-plain-pods").result(make_table(("NAME", "READY", "STATUS"), rows))


def test_pods_that_end_do_not_count() -> None:
    ending = pod("chatbackend-old-1", injected=True)
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert find_check("02-plain-pods").result([*chat_pods(), ending])


def test_workloads_without_a_sidecar_have_no_mode_to_judge() -> None:
    plain = {"WORKLOAD": "curl-plain", "SIDECAR": "no", "MODE": "-", "DECIDED BY": "nobody"}
    assert find_check("04-strict-declared").result([*modes("STRICT", POLICY), plain])


@pytest.mark.parametrize("evidence", [(None,), ("a text",), (), (1, 2, 3)], ids=["None", "text", "nothing", "too much"])
def test_evidence_of_the_wrong_kind_fails_and_says_what_to_hand_in(evidence: tuple[Any, ...]) -> None:
    result = find_check("04-plaintext-refused").result(*evidence)
    assert not result.passed
    assert "lab.probe()" in result.expected


def test_every_check_has_a_row_that_passes_and_one_that_fails() -> None:
    # Lessons 00 to 04. The checks of later ones fail and pass on a cluster: tests/notebooks/test_steps.py.
    with_rows = {"03-certificate"}
    early = {name for name in CHECKS if name < "05"}
    assert early == {row[0] for row in PASSES} | with_rows
    assert early == {row[0] for row in FAILS} | with_rows


def test_an_unknown_name_lists_the_names_and_offers_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        find_check("04-plaintext-refuse")
    assert "04-strict-declared" in caught.value.meaning
    assert "'04-plaintext-refused'" in caught.value.next_step


def test_a_result_shows_expected_observed_and_one_hint() -> None:
    result = find_check("04-plaintext-refused").result(outside(http_status=200))
    assert [line.split(":")[0] for line in result.lines()] == ["Expected", "Observed", "Hint"]
    assert "failed" in result._repr_html_()


def test_a_pending_exercise_is_neither_passed_nor_failed() -> None:
    result = find_check("04-one-port").pending()
    assert (result.passed, result.pending, result.word) == (False, True, "not yet")
