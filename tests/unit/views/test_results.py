"""What is shown: tables as kubectl prints them, cards with the line that does the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from labkit.errors import InputError
from labkit.views.commands import has_blank, kubectl_for, label_pairs
from labkit.views.description import describe
from labkit.views.listings import events_table, pods_table
from labkit.views.results import Attempt, Done, Manifest
from labkit.views.tables import age, make_table
from tests.unit.observe.builders import pod

NOW = datetime(2026, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (190, "3m10s"),
        (900, "15m"),
        (7200, "120m"),
        (14400, "4h"),
        (200000, "2d"),
    ],
)
def test_ages_are_kubectls(seconds: int, shown: str) -> None:
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == shown


def test_a_table_prints_without_an_index_and_left_aligned() -> None:
    table = make_table(("NAME", "READY"), [("a", "1/1"), ("longer", "2/2")])
    assert repr(table) == "NAME     READY\na        1/1\nlonger   2/2"
    assert "<td" in table._repr_html_()


def test_a_part_of_a_table_is_a_table() -> None:
    table = make_table(("NAME", "READY"), [("a", "1/1"), ("b", "2/2")])
    assert repr(table[table["READY"] == "2/2"]) == "NAME   READY\nb      2/2"


def test_an_empty_table_says_so() -> None:
    assert repr(make_table(("NAME",), [])) == "No resources found."


def test_names_in_tables_are_escaped() -> None:
    assert "<script>" not in make_table(("NAME",), [("<script>",)])._repr_html_()


def test_pods_of_one_namespace_need_no_namespace_column() -> None:
    assert "NAMESPACE" not in pods_table([pod()], one_namespace=True).columns
    assert "NAMESPACE" in pods_table([pod()], one_namespace=False).columns


def test_events_come_oldest_first_and_only_the_newest() -> None:
    def event(minute: int) -> dict[str, object]:
        stamp = f"2026-01-01T00:{minute:02}:00Z"
        return {"metadata": {"namespace": "a", "name": "e"}, "lastTimestamp": stamp, "reason": str(minute),
                "involvedObject": {"kind": "Pod", "name": "x"}}  # fmt: skip

    table = events_table([event(3), event(1), event(2)], one_namespace=True, newest=2)
    assert list(table["REASON"]) == ["2", "3"]


def test_done_shows_the_line_that_does_the_same() -> None:
    done = Done("pod/x created", kubectl=("kubectl apply -f x.yaml",), warnings=("careful",), seconds=1.25)
    assert str(done).splitlines() == ["pod/x created (1.2 s)", "  Warning: careful", "  $ kubectl apply -f x.yaml"]
    assert "kubectl apply" in done._repr_html_()


def test_a_refused_attempt_shows_three_lines_and_no_traceback() -> None:
    attempt = Attempt(error=InputError("No.", meaning="Why.", next_step="Do."))
    assert not attempt.accepted
    assert "What to do:    Do." in str(attempt)
    assert "Refused:" in attempt._repr_html_()


def test_a_blank_attempt_is_pending() -> None:
    assert "replace" in str(Attempt(pending=True)).lower()


def test_a_manifest_is_highlighted_by_the_page() -> None:
    assert Manifest("kind: Pod", "a.yaml")._repr_markdown_() == "`a.yaml`\n\n```yaml\nkind: Pod\n```"


def test_a_description_tells_init_containers_from_the_others() -> None:
    told = describe(pod(injected=True))
    assert told.container_names == ["app", "istio-proxy"]
    assert told.init_container_names == ["istio-init"]
    assert "completed, exit code 0" in str(told)
    assert "kubectl describe pod" in told._repr_html_()


def test_the_line_for_paths_names_the_files() -> None:
    assert kubectl_for("manifests/apps/chat", "apply", None) == "kubectl apply -f manifests/apps/chat"
    two = ["manifests/apps/chat/chatbackend.yaml", "manifests/apps/chat/chatfrontend.yaml"]
    assert kubectl_for(two, "apply", "foo").count(" -f ") == 2


def test_the_line_for_an_object_names_it_when_it_is_deleted() -> None:
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "foo"}}
    assert kubectl_for(obj, "delete", None) == "kubectl delete pod/x -n foo"
    assert kubectl_for(obj, "apply", None).startswith("kubectl apply -f -")


def test_a_removed_label_ends_with_a_hyphen() -> None:
    assert label_pairs({"istio.io/rev": "default", "istio-injection": None}) == "istio.io/rev=default istio-injection-"


@pytest.mark.parametrize(
    ("source", "blank"),
    [
        ("spec:\n  mode: ...\n", True),
        ("spec:\n  - ...\n", True),
        ("spec:\n  principals: [...]\n", True),
        ("spec:\n  ...:\n    mode: DISABLE\n", True),
        ("spec:\n  hosts: [a]\n", False),
        ("spec:\n  mode: STRICT\n", False),
        ("text: wait ... and see\n", False),
        ({"spec": {"mode": "..."}}, True),
        ({"spec": {"mode": ...}}, True),
        ({"spec": ["a"]}, False),
        (..., True),
        ("manifests/x.yaml", False),
    ],
)
def test_a_blank_is_found(source: object, blank: bool) -> None:
    assert has_blank(source) is blank
