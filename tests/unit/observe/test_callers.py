"""Callers in plaintext, named by the addresses in access logs."""

from __future__ import annotations

import json

from labkit.observe.callers import Caller, InPlaintext, by_logs, plaintext_lines

HEAD = '"POST /chat HTTP/1.1" 200 - via_upstream - "-" 16 110 0 0 "-" "curl/7.88.1" "e" "store:5000" "10.1.0.4:5000"'


def line(
    sni: str = "-",
    cluster: str = "inbound|5000||",
    address: str = "10.1.0.9:42788",
    at: str = "2026-11-21T08:00:00.000Z",
) -> str:
    return f"[{at}] {HEAD} {cluster} 127.0.0.6:57618 10.1.0.4:5000 {address} {sni} default"


MTLS = line("outbound_.5000_._.store.shop.svc.cluster.local")
TCP = (
    '[2026-11-21T08:00:02.000Z] "- - -" 0 - - - "-" 5 10 3 - "-" "-" "-" "-" "10.1.0.4:6379" '
    "inbound|6379|| 127.0.0.6:1 10.1.0.4:6379 10.1.0.8:2 - -"
)


def as_json(**changes: str | None) -> str:
    entry = {
        "start_time": "2026-11-21T08:00:03.000Z",
        "upstream_cluster": "inbound|5000||",
        "downstream_remote_address": "[fd00::9]:4000",
        "requested_server_name": None,
    }
    return json.dumps({**entry, **changes})


def test_lines_without_a_server_name_came_in_plaintext() -> None:
    text = "\n".join(
        [line(), MTLS, TCP, as_json(), as_json(requested_server_name="outbound_.x"), "Envoy says inbound|"]
    )
    assert list(plaintext_lines(text)) == [
        InPlaintext("2026-11-21T08:00:00.000Z", 5000, "10.1.0.9"),
        InPlaintext("2026-11-21T08:00:02.000Z", 6379, "10.1.0.8"),
        InPlaintext("2026-11-21T08:00:03.000Z", 5000, "fd00::9"),
    ]


def test_what_a_pod_sends_itself_is_not_of_its_callers() -> None:
    assert not list(plaintext_lines(line(cluster="outbound|5000||store.shop.svc.cluster.local")))
    assert not list(plaintext_lines('{"upstream_cluster": "inbound|5000'))


def test_callers_are_named_and_added_up_over_pods() -> None:
    first = "\n".join([line(), line(at="2026-11-21T09:00:00.000Z"), line(address="192.0.2.7:1"), MTLS])
    logs = [("shop/store-1", first), ("shop/store-2", line())]
    workloads = {"shop/store-1": "shop/store", "shop/store-2": "shop/store"}
    assert by_logs(logs, workloads, {"10.1.0.9": "legacy/old"}) == [
        Caller("legacy/old", "shop/store", 5000, 3, "2026-11-21T09:00:00.000Z"),
        Caller("192.0.2.7", "shop/store", 5000, 1, "2026-11-21T08:00:00.000Z"),
    ]
    assert not by_logs([("shop/store-1", MTLS)], workloads, {})
