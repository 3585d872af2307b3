"""Refused connections, as each of the four tellers says it."""

from __future__ import annotations

import json

import pytest

from labkit.observe.exposition import read_page
from labkit.observe.refusals import (
    AT_GATEWAYS,
    CLIENT,
    LOG,
    MEANINGS,
    PROBE,
    STATISTICS,
    Refusal,
    Refusals,
    addresses,
    by_clients,
    by_logs,
    by_probes,
    by_statistics,
    refused_lines,
)
from labkit.outcomes import Observation, Outcome, Probe
from labkit.views.refusals import RefusalsView

PLAINTEXT = MEANINGS["no_filter_chain_match"]
WORKLOADS = {"shop/store-1": "shop/store", "shop/store-2": "shop/store"}
REFUSED = (
    '[2026-11-21T08:13:39.107Z] "- - -" 0 NR filter_chain_not_found - "-" 0 0 0 - "-" "-" "-" "-" "-" - - '
    "10.1.0.4:5000 10.1.0.9:35984 - -"
)
ANSWERED = (
    '[2026-11-21T08:13:39.127Z] "POST /chat HTTP/1.1" 200 - via_upstream - "-" 16 110 0 0 "-" "curl/7.88.1" "e" '
    '"store:5000" "10.1.0.4:5000" inbound|5000|| 127.0.0.6:57618 10.1.0.4:5000 10.1.0.9:42788 - default'
)
IN_JSON = json.dumps(
    {
        "start_time": "2026-11-21T08:14:00.000Z",
        "response_flags": "NR",
        "response_code_details": "filter_chain_not_found",
        "downstream_remote_address": "10.1.0.8:4000",
    }
)


def statistics(pod: str, address: str = "0.0.0.0_15006", **counts: int) -> str:
    return "".join(f'envoy_listener_{name}{{envoy_listener_address="{address}"}} {n}\n' for name, n in counts.items())


def counted(*pages: tuple[str, str]) -> list[Refusal]:
    return by_statistics([s for pod, text in pages for s in read_page(text, pod)], WORKLOADS)


def test_listener_statistics_of_all_pods_of_a_workload_are_added_up() -> None:
    found = counted(
        ("shop/store-1", statistics("", no_filter_chain_match=3, ssl_fail_verify_no_cert=1)),
        ("shop/store-2", statistics("", "10.1.0.4_15006", no_filter_chain_match=2, ssl_connection_error=0)),
    )
    assert [(one.server, one.why, one.count) for one in found] == [
        ("shop/store", MEANINGS["ssl_fail_verify_no_cert"], 1),
        ("shop/store", PLAINTEXT, 5),
    ]
    assert {one.told_by for one in found} == {STATISTICS} and {one.client for one in found} == {""}


@pytest.mark.parametrize(
    ("address", "of_sidecar", "of_gateway"),
    [
        ("10.1.0.4_15006", True, True),
        ("0.0.0.0_8443", False, True),
        ("10.1.0.10_5000", False, True),  # of a sidecar: where the application itself sends
        ("0.0.0.0_15001", False, False),
        ("0.0.0.0_15090", False, False),
        ("/run/p/3/relay.sock", False, False),
        ("", False, False),
    ],
)
def test_only_listeners_where_others_arrive_count(address: str, of_sidecar: bool, of_gateway: bool) -> None:
    page = statistics("", address, no_filter_chain_match=1)
    assert bool(counted(("shop/store-1", page))) is of_sidecar
    at_gateway = by_statistics(read_page(page, "shop/gate-1"), {}, {"shop/gate-1"})
    assert [one.why for one in at_gateway] == [AT_GATEWAYS] * of_gateway


def test_the_access_log_names_the_client() -> None:
    text = "\n".join(
        [ANSWERED, REFUSED, "some words of Envoy", REFUSED.replace("08:13:39.107", "08:13:40.000"), IN_JSON]
    )
    assert [remote for _, remote in refused_lines(text)] == ["10.1.0.9:35984", "10.1.0.9:35984", "10.1.0.8:4000"]
    found = by_logs([("shop/store-1", text)], WORKLOADS, {"10.1.0.9": "legacy/old"})
    assert found == [
        Refusal("shop/store", "10.1.0.8", PLAINTEXT, 1, LOG, "2026-11-21T08:14:00.000Z"),
        Refusal("shop/store", "legacy/old", PLAINTEXT, 2, LOG, "2026-11-21T08:13:40.000Z"),
    ]
    assert not by_logs([("shop/store-1", ANSWERED)], WORKLOADS, {})
    assert not list(refused_lines('{"filter_chain_not_found": '))


def test_addresses_belong_to_pods_and_nodes() -> None:
    def pod(name: str, ip: str, host: str = "10.0.0.1") -> dict[str, object]:
        return {
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"containers": []},
            "status": {"podIP": ip, "hostIP": host},
        }

    names = addresses([pod("a", "10.1.0.9"), pod("host-network", "10.0.0.1"), {**pod("b", ""), "status": {}}])
    assert names == {"10.0.0.1": "node 10.0.0.1", "10.1.0.9": "shop/a"}


def request(code: str, flags: str, reporter: str = "source", value: int = 2) -> str:
    labels = {
        "reporter": reporter,
        "source_workload": "web",
        "source_workload_namespace": "shop",
        "destination_workload": "store",
        "destination_workload_namespace": "shop",
        "response_code": code,
        "response_flags": flags,
    }
    written = ",".join(f'{name}="{each}"' for name, each in labels.items())
    return f"istio_requests_total{{{written}}} {value}\n"


def test_clients_tell_of_requests_that_were_cut() -> None:
    text = request("503", "UC") + request("503", "UF,URX", value=1)
    text += request("200", "-") + request("503", "UC", reporter="destination") + request("503", "UH")
    found = by_clients(read_page(text))
    assert [(one.server, one.client, one.count) for one in found] == [
        ("shop/store", "shop/web", 2),
        ("shop/store", "shop/web", 1),
    ]
    assert found[0].why == "503 UC: the server's side cut the connection" and found[0].told_by == CLIENT


def test_our_own_probes_count_when_they_were_refused() -> None:
    sent = Probe("legacy/old", "shop/store", 5000)
    reset = Observation(Outcome.REFUSED, exit_code=56, error="curl: (56) Recv failure: Connection reset", probe=sent)
    served = Observation(Outcome.PLAINTEXT, http_status=200, probe=sent)
    found = by_probes([reset, served, reset])
    assert [(one.client, one.server, one.count, one.told_by) for one in found] == [
        ("legacy/old", "shop/store", 2, PROBE)
    ]
    assert not by_probes([served])


def test_the_view_does_not_add_up_what_several_tell() -> None:
    lines = (
        Refusal("shop/store", "", PLAINTEXT, 3, STATISTICS),
        Refusal("shop/store", "legacy/old", PLAINTEXT, 2, LOG),
    )
    view = RefusalsView(Refusals(lines, {"shop/old-1": "it keeps no statistics of its listeners"}))
    assert (view.count(), view.count(LOG), view.count(PROBE), view.count(server="shop/web")) == (3, 2, 0, 0)
    assert "3 by servers' statistics, 2 by access logs." in view.title
    assert list(view.frame["client"]) == ["", "legacy/old"]
    assert "shop/old-1 is missing" in str(view) and "legacy/old" in view._repr_html_()
    nothing = RefusalsView(Refusals(()))
    assert str(nothing) == "No proxy refused a connection." and not len(nothing.frame)


def test_what_was_refused_between_two_looks() -> None:
    def seen(count: int, client: str = "") -> Refusal:
        return Refusal("shop/store", client, PLAINTEXT, count, STATISTICS)

    before = RefusalsView(Refusals((seen(3), seen(5, "a"))))
    after = RefusalsView(Refusals((seen(4), seen(5, "a"), seen(2, "new"))))
    assert [(one.client, one.count) for one in (after - before).refusals.found] == [("", 1), ("new", 2)]
    assert (before - after).count() == 3  # smaller than before: a proxy began anew
    with pytest.raises(TypeError):
        after - 1  # type: ignore[operator]
