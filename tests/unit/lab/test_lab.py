"""The front door and what the lab keeps: results, secrets, worlds by name. No cluster."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import labkit
from labkit.checks import CheckResult, find_check
from labkit.cluster import load_documents
from labkit.cluster.cluster import Change
from labkit.cluster.kinds import NAMESPACE, PEER_AUTHENTICATION, POD
from labkit.drills import find_drill
from labkit.errors import ClusterError, InputError
from labkit.lab import Lab, Secret
from labkit.outcomes import Observation, Outcome
from labkit.worlds import Journal, Undo, find_world
from tests.unit.observe.builders import peer_authentication


class FakeCluster:
    """Keeps objects in a dict and writes down what is asked of it."""

    def __init__(self) -> None:
        self.objects_: dict[str, dict[str, object]] = {}
        self.log: list[str] = []

    def serves(self, kind: object) -> bool:
        return True

    def find(self, kind: object, name: str, namespace: str | None = None) -> object:
        return self.objects_.get(name)

    def delete(self, kind: object, name: str, namespace: str | None = None) -> Change:
        self.log.append(f"delete {name}")
        return Change("deleted", POD, name, namespace)

    def restore(self, obj: dict[str, object], kind: object) -> None:
        self.log.append(f"restore {obj['metadata']['name']}")  # type: ignore[index]

    def label(self, kind: object, name: str, labels: dict[str, object], namespace: str | None = None) -> Change:
        self.log.append(f"label {name} {labels}")
        return Change("configured", NAMESPACE, name)

    def apply(self, source: object, *, namespace: str | None = None) -> list[Change]:
        load_documents(source)  # type: ignore[arg-type]
        self.log.append("apply")
        return []

    def wait_until_gone(self, changes: list[Change]) -> None:
        self.log.append(f"wait {[c.name for c in changes]}")

    def close(self) -> None:
        self.log.append("close")


@pytest.fixture
def lab() -> Lab:
    return Lab(FakeCluster())  # type: ignore[arg-type]


def journal() -> tuple[Journal, FakeCluster]:
    cluster = FakeCluster()
    return Journal(cluster), cluster  # type: ignore[arg-type]


def ours(name: str) -> dict[str, object]:
    return {"metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "labkit"}}}


def test_the_front_door_opens_the_lab() -> None:
    assert labkit.open is not None and labkit.Lab is Lab
    with pytest.raises(AttributeError, match="nothing"):
        labkit.nothing  # noqa: B018


def test_a_failed_check_is_recorded_and_does_not_raise(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_RESULTS", str(tmp_path / "results"))
    result = lab.check("04-plaintext-refused", Observation(http_status=200))
    lab.check("04-plaintext-refused", Observation(Outcome.REFUSED, exit_code=56, error="Connection reset by peer"))
    assert isinstance(result, CheckResult) and not result.passed
    assert [r.passed for r in lab.results] == [False, True]
    rows = [json.loads(line) for line in (tmp_path / "results").read_text().splitlines()]
    assert [(row["name"], row["passed"]) for row in rows] == [
        ("04-plaintext-refused", False), ("04-plaintext-refused", True)]  # fmt: skip
    assert {"expected", "observed", "hint", "pending"} <= set(rows[0])


@pytest.mark.parametrize("evidence", [(), (...,)], ids=["nothing", "the blank"])
def test_an_exercise_without_an_answer_is_pending(lab: Lab, evidence: tuple[object, ...]) -> None:
    result = lab.check("04-one-port", *evidence)
    assert isinstance(result, CheckResult) and result.pending


def test_an_unknown_check_is_an_error_that_lists_the_names(lab: Lab) -> None:
    with pytest.raises(InputError, match="no check"):
        lab.check("99-nothing")
    assert lab.results == []


def test_without_a_name_the_checks_are_listed(lab: Lab) -> None:
    assert "04-plaintext-refused" in repr(lab.check())


@pytest.mark.parametrize("mode", ["strict", "ON", "", None])
def test_a_wrong_mode_changes_nothing(lab: Lab, mode: str) -> None:
    with pytest.raises(InputError, match="not a mode"):
        lab.set_mtls_mode(mode, "foo")
    assert lab.cluster.log == []  # type: ignore[attr-defined]


def test_a_blank_attempt_is_not_sent(lab: Lab) -> None:
    attempt = lab.attempt("kind: PeerAuthentication\nspec:\n  mtls:\n    mode: ...\n")
    assert attempt.pending and lab.cluster.log == []  # type: ignore[attr-defined]


def test_a_refused_attempt_is_shown(lab: Lab) -> None:
    assert isinstance(lab.attempt("a: b\n  c: d").error, InputError)


def test_a_secret_does_not_show_itself(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "hush")
    secret = lab.from_environment("SOME_KEY")
    assert secret == "hush" and "hush" not in repr({"key": secret})
    assert json.dumps(secret) == '"hush"'
    assert repr(Secret("")) == "''" and lab.from_environment("NO_SUCH_KEY") == ""


def test_a_manifest_is_shown_with_its_path(lab: Lab) -> None:
    shown = lab.show("manifests/apps/curl-outside/curl-outside.yaml")
    assert shown.path == "manifests/apps/curl-outside/curl-outside.yaml"
    assert "kind: Deployment" in shown.text


def test_a_lab_closes_its_connections() -> None:
    cluster = FakeCluster()
    with Lab(cluster):  # type: ignore[arg-type]
        pass
    assert cluster.log == ["close"]


def test_who_leaves_sends_nothing_any_more(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there was nothing to put back" in str(lab.leave())
    monkeypatch.setattr(lab, "_followed", SimpleNamespace(stop_traffic=lambda: 2))
    assert "stopped 2 senders" in str(lab.leave())


def test_worlds_are_known_by_the_lessons_number() -> None:
    assert find_world("03").applications and not find_world("01").mesh
    with pytest.raises(InputError, match="no lesson '77'"):
        find_world("77")


def test_what_was_created_is_removed_newest_first() -> None:
    book, cluster = journal()
    cluster.objects_ = {"a": ours("a"), "b": ours("b")}
    book.record([Change("created", POD, "a", "default"), Change("created", POD, "b", "default")])
    undone, failed = book.undo()
    assert cluster.log[:2] == ["delete b", "delete a"]
    assert (len(undone), failed) == (2, [])


def test_what_somebody_else_made_since_stays() -> None:
    book, cluster = journal()
    cluster.objects_ = {"a": {"metadata": {"name": "a"}}}
    book.record([Change("created", POD, "a", "default")])
    assert book.undo()[0] == []
    assert "delete a" not in cluster.log


def test_what_could_not_be_put_back_is_tried_again() -> None:
    book, _ = journal()
    refusals = [ClusterError("no"), None]

    def restore() -> None:
        refusal = refusals.pop(0)
        if refusal:
            raise refusal

    book.add(Undo("restored the door", restore))
    assert book.undo() == ([], ["not restored the door: no"])
    assert book.undo() == (["restored the door"], [])
    assert book.undo() == ([], []) and refusals == []


def test_what_was_changed_or_deleted_is_restored() -> None:
    book, cluster = journal()
    cluster.objects_ = {"foo": ours("foo")}
    before = peer_authentication("STRICT")
    book.record([Change("deleted", PEER_AUTHENTICATION, "default", "foo", before)])
    book.record([Change("configured", PEER_AUTHENTICATION, "default", "foo", before)])
    book.undo()
    assert cluster.log.count("restore default") == 2


def test_of_an_object_that_changed_twice_the_end_is_told() -> None:
    book, cluster = journal()
    cluster.objects_ = {"foo": ours("foo"), "a": ours("a")}
    book.record([Change("created", POD, "a", "foo")])
    book.record([Change("configured", POD, "a", "foo", ours("a"))])
    before = peer_authentication("STRICT")
    book.record([Change("configured", PEER_AUTHENTICATION, "default", "foo", before)] * 3)
    assert book.undo()[0] == ["restored peerauthentication/default", "removed pod/a"]
    assert cluster.log.count("restore default") == 3


def test_what_this_lab_made_is_not_lost_when_a_world_removes_it(lab: Lab) -> None:
    lab._journal.record([Change("created", NAMESPACE, "foo")])
    lab.lose("namespace foo")
    lab.lose("namespace bar")
    assert lab._lost == ["namespace bar"]


def test_what_lost_its_namespace_is_not_restored() -> None:
    book, cluster = journal()
    book.record([Change("deleted", PEER_AUTHENTICATION, "default", "gone", peer_authentication("STRICT"))])
    assert book.undo() == ([], [])
    assert "restore default" not in cluster.log


def test_what_goes_with_its_namespace_is_not_removed_one_by_one() -> None:
    book, cluster = journal()
    cluster.objects_ = {"foo": ours("foo"), "a": ours("a")}
    book.record([Change("created", NAMESPACE, "foo"), Change("created", POD, "a", "foo")])
    book.undo()
    assert [line for line in cluster.log if line.startswith("delete")] == ["delete foo"]


def test_labels_are_put_back_as_they_were() -> None:
    book, cluster = journal()
    cluster.objects_ = {"foo": ours("foo")}
    before = {"metadata": {"name": "foo", "labels": {"istio.io/rev": "old"}}}
    book.record_labels(Change("configured", NAMESPACE, "foo", before=before), ["istio.io/rev", "new"])
    book.undo()
    assert cluster.log[0] == "label foo {'istio.io/rev': 'old', 'new': None}"


def test_a_step_that_fails_does_not_stop_the_others() -> None:
    book, _ = journal()
    done: list[str] = []

    def fail() -> None:
        raise InputError("No.")

    book.add(Undo("first", lambda: done.append("first")))
    book.add(Undo("second", fail))
    undone, failed = book.undo()
    assert (undone, failed, done) == (["first"], ["not second: No."], ["first"])


def test_a_namespace_where_a_file_is_meant_is_told_the_way(lab: Lab) -> None:
    lab.cluster.objects_ = {"shop": ours("shop")}  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"namespace='shop'"):
        lab.analyze("shop")
    with pytest.raises(InputError, match="There is no file 'nowhere'"):
        lab.analyze("nowhere")


def test_a_step_is_named_as_checks_name_it(lab: Lab) -> None:
    with pytest.raises(InputError, match="Lesson 04 has no step 9"):
        lab.solve("04.9")
    with pytest.raises(InputError, match="Lesson 04 has no step 8"):
        lab.solve("4", 8)


def test_hints_come_one_by_one_and_end(lab: Lab) -> None:
    lab._drill, lab._hints = "two-labels", 0
    hints = find_drill("two-labels").hints
    assert [lab.hint() for _ in hints] == list(hints)
    assert repr(lab.hint()).startswith("There are no more hints.")


def test_unchanged_objects_need_no_way_back() -> None:
    book, cluster = journal()
    book.record([Change("unchanged", POD, "a", "default")])
    assert book.undo() == ([], [])
    assert find_check("00-no-mesh")
    assert cluster.log == ["wait []"]
