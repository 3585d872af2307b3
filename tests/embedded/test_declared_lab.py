"""The declared view on a running cluster: what is said of a call is what it meets, before a change and after it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

import labkit
from labkit.cli import main
from labkit.cluster.opening import embedded_lifecycle
from labkit.errors import InputError, MeshError
from labkit.lab import Lab
from labkit.outcomes import Outcome
from labkit.policy.declared import Rule
from labkit.policy.declared.disagreeing import Cause, Seen
from labkit.policy.declared.steps import Act

pytestmark = pytest.mark.timeout(120)

CLUSTER = "declared"
OUTSIDE, INSIDE = "default/curl-outside", "azureopenai/chatfrontend"
SERVER, PORT = "azureopenai/chatbackend-service", 5000
URL = "http://chatbackend-service.azureopenai:5000/healthz"
PEERS = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: azureopenai}
spec: {mtls: {mode: PERMISSIVE}}
"""
STRICT = "manifests/lessons/04/peer-authentication.yaml"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The chat application in the mesh, a client outside of it, no policies."""
    with labkit.open(f"embedded:{CLUSTER}", narrate=lambda _: None) as lab:
        lab.world("03")
        yield lab
    embedded_lifecycle().down(CLUSTER, purge=True)


@pytest.fixture
def strict(lab: Lab) -> Iterator[Lab]:
    lab.apply(STRICT)
    yield lab
    lab.delete(STRICT)


def test_what_is_said_of_a_call_is_what_it_meets(lab: Lab) -> None:
    for client, outcome in ((OUTSIDE, Outcome.PLAINTEXT), (INSIDE, Outcome.MTLS)):
        assert lab.explain(client, SERVER, PORT).outcome is outcome
        assert lab.probe(client, URL).outcome is outcome


def test_after_strict_it_is_refused_and_the_policy_is_named(strict: Lab) -> None:
    found = strict.explain(OUTSIDE, URL)
    assert strict.probe(OUTSIDE, URL).outcome is found.outcome is Outcome.REFUSED
    (decider,) = found.answer.deciders
    assert (decider.rule, decider.object) == (
        Rule.PEER_AUTHENTICATION,
        "PeerAuthentication azureopenai/azureopenai-mtls",
    )
    assert strict.explain(INSIDE, URL).outcome is Outcome.MTLS


def test_a_preview_comes_true(lab: Lab) -> None:
    promised = {(one.client, one.server): one.becomes for one in lab.preview(STRICT).preview.changes}
    assert promised[OUTSIDE, f"{SERVER}:{PORT}"] == "refused"
    before = {edge.key: edge.outcome for edge in lab.edges()}
    lab.apply(STRICT)
    after = {edge.key: edge.outcome for edge in lab.edges()}
    lab.delete(STRICT)
    assert {key: str(after[key]) for key in after if after[key] is not before[key]} == promised


def test_observed_traffic_says_how_much_would_be_refused(lab: Lab) -> None:
    lab.probe(OUTSIDE, URL)
    found = lab.preview(STRICT, traffic=lab.metrics()).preview
    assert found.refused_per_minute
    assert lab.preview(STRICT).preview.refused_per_minute is None


def test_the_plan_injects_before_it_enforces(lab: Lab) -> None:
    acts = [(step.act, step.what) for step in lab.migrate().steps]
    assert acts.index((Act.INJECT, OUTSIDE)) < acts.index((Act.STRICT, "namespace azureopenai"))
    assert all(not step.breaks for step in lab.migrate().steps)


def test_views_that_agree_and_one_that_does_not(lab: Lab) -> None:
    lab.probe(OUTSIDE, URL)
    lab.probe(INSIDE, URL)
    assert not lab.disagreements()
    wrong = lab.disagreements(observed=[Seen(INSIDE, f"{SERVER}:{PORT}", Outcome.PLAINTEXT, by="the wire")])
    (row,) = wrong.rows
    assert (row.declared, row.seen.outcome, row.cause) == ("mTLS", Outcome.PLAINTEXT, Cause.BYPASS)
    assert "BYPASS" not in wrong._repr_html_() and "past the Service" in wrong._repr_html_()


def test_a_call_past_the_service_is_a_disagreement(strict: Lab) -> None:
    """A sidecar passes a pod's own address on in plaintext: the server is STRICT and refuses it."""
    (pod,) = strict.cluster.objects("Pod", "azureopenai", labels={"app": "chatbackend"})[:1]
    address = pod["status"]["podIP"]
    declared = strict.explain(INSIDE, address, PORT)
    assert declared.outcome is Outcome.REFUSED
    assert declared.answer.because[0].rule is Rule.PASSED_ON
    assert strict.probe(INSIDE, f"http://{address}:{PORT}/healthz").refused


def test_from_a_shell(strict: Lab) -> None:
    where = ["--cluster", f"embedded:{CLUSTER}"]
    found = CliRunner().invoke(main, ["explain", OUTSIDE, SERVER, str(PORT), "--json", *where])
    assert json.loads(found.stdout)["verdict"] == "refused"
    assert CliRunner().invoke(main, ["verify", "--forbid", "refused", *where]).exit_code == 1
    assert CliRunner().invoke(main, ["verify", "--forbid", "refused", "--exempt", OUTSIDE, *where]).exit_code == 0
    counted = CliRunner().invoke(main, ["migrate", "--observed", "--json", *where])
    assert json.loads(counted.stdout)["by_observed_traffic"]
    opened = CliRunner().invoke(main, ["preview", "--delete", STRICT, *where])
    assert (opened.exit_code, "start to work" in opened.stdout) == (0, True)


def test_what_the_cluster_would_not_take_is_said_before(lab: Lab) -> None:
    elsewhere = PEERS.replace("azureopenai", "azureopenay")
    (refused,) = lab.preview(elsewhere).preview.refused
    assert refused.endswith("the namespace 'azureopenay' does not exist. Did you mean 'azureopenai'?")
    with pytest.raises(InputError, match="namespace 'azureopenay' does not exist"):
        lab.apply(elsewhere)
    (refused,) = lab.preview(PEERS.replace("Authentication", "Authentification")).preview.refused
    assert "does not know the kind PeerAuthentification" in refused and "PeerAuthentication" in refused
    assert lab.preview(PEERS).preview.refused == ()
    made = "apiVersion: v1\nkind: Namespace\nmetadata: {name: azureopenay}\n---\n"
    assert lab.preview(made + elsewhere).preview.refused == (), "it comes with the change"


def test_without_a_mesh_nobody_plans_for_strict() -> None:
    """The last cluster of this module: there is no mesh, so there are no kinds of Istio's."""
    with labkit.open(f"embedded:{CLUSTER}-bare", narrate=lambda _: None) as bare:
        try:
            (refused,) = bare.preview(PEERS.replace("azureopenai", "default")).preview.refused
            assert "Istio's kinds come with the mesh, and none is installed" in refused
            with pytest.raises(MeshError, match="No mesh is installed"):
                bare.migrate()
            with pytest.raises(MeshError, match="No mesh is installed"):
                bare.install_prometheus()
            told = CliRunner().invoke(main, ["migrate", "--cluster", f"embedded:{CLUSTER}-bare"])
            assert (told.exit_code, "labkit mesh install --cluster embedded:declared-bare" in told.output) == (1, True)
        finally:
            embedded_lifecycle().down(f"{CLUSTER}-bare", purge=True)


def test_the_plan_is_gone_step_by_step_and_nobody_is_cut_off(lab: Lab) -> None:
    """The last test here: it leaves the mesh STRICT, and the client from outside with a sidecar."""
    plan = lab.migrate()
    assert plan.plan.complete

    def everybody_is_served() -> bool:
        return all(lab.probe(client, URL).http_status == 200 for client in (OUTSIDE, INSIDE))

    assert everybody_is_served()
    for step in plan.steps:
        if step.change.apply:
            lab.apply([dict(one) for one in step.change.apply])
        if step.act is Act.INJECT:
            lab.restart(OUTSIDE)
        assert everybody_is_served(), f"{step.act} {step.what}"
    assert lab.mtls_mode() == lab.mtls_mode("azureopenai") == "STRICT"
    assert lab.verify(forbid=["plaintext", "refused"]).passed
    assert lab.migrate().plan.complete and not lab.migrate().steps
