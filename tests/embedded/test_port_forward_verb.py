"""`lab.port_forward` on a whole cluster: past the sidecar, whatever its policies say; and what is not there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit.errors import LabError
from labkit.lab import Lab
from labkit.outcomes import Outcome
from tests.embedded.proxy_words_world import small_mesh

SERVER, CLIENT = "shop/server", "shop/client"
URL = "http://server.shop:5000/healthz"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with small_mesh("forwardverb") as lab:
        lab.set_mtls_mode("STRICT", "shop")
        yield lab


def test_strict_says_nothing_to_what_comes_by_localhost(lab: Lab) -> None:
    seen = lab.port_forward(SERVER, 5000, "/healthz")
    assert (seen.http_status, seen.outcome) == (200, Outcome.PLAINTEXT)
    assert seen.command.startswith("kubectl port-forward -n shop deploy")
    # The twin: by the front door the same plaintext is cut.
    assert lab.probe("legacy/old", URL).exit_code == 56


def test_where_nobody_listens_nothing_comes(lab: Lab) -> None:
    seen = lab.port_forward(SERVER, 5999)
    assert (seen.http_status, seen.outcome) == (None, Outcome.REFUSED) and seen.error


def test_a_workload_that_is_not_there_is_said(lab: Lab) -> None:
    with pytest.raises(LabError, match="nobody"):
        lab.port_forward("shop/nobody", 5000)


def test_traffic_says_how_much_of_it_failed(lab: Lab) -> None:
    try:
        lab.start_traffic(CLIENT, URL, rps=20)
        lab.start_traffic("legacy/old", URL, rps=20)
        senders = lab.live.senders.values()
        while not all(one.sent >= 5 for one in senders):
            assert all(one.running for one in senders)
        failed = lab.traffic().set_index("CLIENT")
        assert failed.loc[CLIENT, "FAILED"] == 0
        assert failed.loc["legacy/old", "FAILED"] >= 5
    finally:
        lab.stop_traffic()
