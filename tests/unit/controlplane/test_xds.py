"""What a proxy's request says, and what becomes known from its answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from labkit.embedded.controlplane.delivery import Delivery, Document
from labkit.embedded.controlplane.monitoring import Monitor
from labkit.embedded.controlplane.rejections import last_rejection, words_of
from labkit.embedded.controlplane.xds import (
    ERROR,
    NOT_SENT,
    STALE,
    SYNCED,
    Asked,
    Subscription,
    XdsServer,
    proxy_key,
    read_request,
)

OLD, NEW = Document('{"version_info":"","resources":[]}'), Document('{"version_info":"","resources":[{}]}')
ENVOY = 4711


def request(**members: object) -> bytes:
    """As Envoy writes it: in the order of the fields' numbers, with a long node."""
    node = {"id": "sidecar~127.1.2.1~a-1.foo~foo.svc.cluster.local", "extensions": [{"name": "x" * 70_000}]}
    first = {"version_info": members.pop("version")} if "version" in members else {}
    return json.dumps({**first, "node": node, **members}, separators=(",", ":")).encode()


def test_a_request_names_the_proxy_the_version_that_it_runs_and_what_it_wants() -> None:
    body = request(version="abc", resource_names=["default"], type_url="type.googleapis.com/x")
    assert read_request(body) == Asked(("foo", "a-1"), "abc", ("default",))
    assert read_request(request(type_url="t")) == Asked(("foo", "a-1"), "", ())


def test_a_pod_may_have_dots_in_its_name() -> None:
    assert proxy_key("sidecar~127.1.2.1~a.b.foo~foo.svc.cluster.local") == ("foo", "a.b")


@pytest.mark.parametrize("node", ["", "sidecar", "sidecar~1~2", "sidecar~1~nodot~x", "sidecar~1~.foo~x"])
def test_who_is_no_proxy_is_refused(node: str) -> None:
    with pytest.raises(ValueError, match="no id of a proxy"):
        proxy_key(node)


def test_a_request_without_a_node_is_refused() -> None:
    with pytest.raises(ValueError, match="no node"):
        read_request(b"{}")


def sent(document: Document, *, acked: str = "") -> Subscription:
    one = Subscription(("foo", "a"), "listeners", Path("/x"), acked=acked)
    one.sent, one.sent_to, one.awaiting = document, ENVOY, True
    return one


def test_the_version_of_the_answer_in_the_next_request_is_an_ack() -> None:
    one = sent(NEW)
    assert one.status(NEW) == STALE
    assert not one.hear(NEW.version, ENVOY)
    assert one.status(NEW) == SYNCED
    assert not one.due(NEW, NEW.version)


def test_the_old_version_in_the_next_request_is_a_nack() -> None:
    one = sent(NEW, acked=OLD.version)
    assert one.hear(OLD.version, ENVOY)
    assert one.status(NEW) == ERROR
    assert not one.due(NEW, OLD.version), "not at once again"
    one.retry_at = 0
    assert one.due(NEW, OLD.version), "but after a while"
    assert one.status(OLD) == SYNCED, "what it still runs"


def test_another_envoy_rejects_nothing() -> None:
    """One that was started anew asks from the beginning."""
    one = sent(NEW, acked=OLD.version)
    assert not one.hear("", ENVOY + 1)
    assert one.due(NEW, "")
    assert one.status(NEW) == STALE


def test_what_was_no_rejection_is_sent_again_at_once() -> None:
    one = sent(NEW)
    assert one.hear("", ENVOY)
    assert not one.due(NEW, "")
    one.forgive(OLD)
    assert not one.due(NEW, ""), "that was about another document"
    one.forgive(NEW)
    assert one.due(NEW, "")
    assert one.status(NEW) == STALE


def test_a_proxy_that_meets_another_istiod_says_what_it_runs() -> None:
    one = Subscription(("foo", "a"), "listeners", Path("/x"))
    assert one.status(NEW) == NOT_SENT
    assert not one.hear(NEW.version, ENVOY)
    assert (one.status(NEW), one.due(NEW, NEW.version)) == (SYNCED, False)


def test_pauses_between_offers_grow() -> None:
    one = sent(NEW, acked=OLD.version)
    pauses = []
    for _ in range(8):
        one.sent, one.awaiting = NEW, True
        one.hear(OLD.version, ENVOY)
        pauses.append(round(one.patience(NEW) or 0))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_an_answer_carries_its_version() -> None:
    assert json.loads(NEW.response())["version_info"] == NEW.version != OLD.version
    assert json.loads(Document('{"resources":[]}').response())["version_info"]


PRINTED = """\
[2026-11-21 03:15:18.183][1][warning][config] [x.cc:122] REST config for /v3/discovery:clusters rejected: old words
[2026-11-21 03:15:19.183][1][warning][config] [x.cc:122] REST config for /v3/discovery:listeners rejected: Error adding\
/updating listener(s) a: first
b: second

[2026-11-21 03:15:20.183][1][warning][main] something else
"""


def test_envoys_words_are_read_from_its_log() -> None:
    assert words_of(PRINTED, "listeners") == "Error adding/updating listener(s) a: first b: second"
    assert words_of(PRINTED, "clusters") == "old words"
    assert words_of(PRINTED, "secrets") == ""
    assert last_rejection(PRINTED, "clusters")[0] == "2026-11-21 03:15:18.183"


@pytest.mark.parametrize(
    ("kind", "is_none", "counted"),
    [("secrets", True, 0), ("secrets", False, 1), ("listeners", True, 1), ("listeners", False, 1)],
)
def test_a_subscription_that_begins_anew_is_counted_as_no_rejection(kind: str, is_none: bool, counted: int) -> None:
    """pilot/pkg/xds/monitoring.go counts pilot_total_xds_rejects for NACKs alone."""

    async def judge(subscription: Subscription, document: Document) -> None:
        if is_none:
            subscription.forgive(document)

    async def count() -> str:
        server = XdsServer(Delivery(Path("/x")), judge, monitor=Monitor())
        one = sent(NEW)
        one.kind = kind
        assert one.hear("", ENVOY)
        server._reject(one, NEW)
        await asyncio.gather(*server._tasks)
        assert server.rejections == counted
        return server.monitor.page("1.2", {}, {})

    name = {"secrets": "sds", "listeners": "lds"}[kind]
    assert (f'pilot_total_xds_rejects{{type="{name}"}} 1' in asyncio.run(count())) == bool(counted)
