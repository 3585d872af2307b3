"""How a request was carried, told from two readings of its proxy's metrics."""

from __future__ import annotations

import pytest

from labkit.observe.carried import outcome_between
from labkit.observe.exposition import Sample
from labkit.outcomes import Outcome

BACKEND = "backend.shop.svc.cluster.local"
IDENTITY = "spiffe://cluster.local/ns/shop/sa/backend"


def sent(
    count: int,
    principal: str = IDENTITY,
    host: str = BACKEND,
    code: str = "200",
    by: str = "source",
    flags: str = "-",
) -> Sample:
    labels = {
        "reporter": by,
        "destination_service": host,
        "destination_principal": principal,
        "response_code": code,
        "response_flags": flags,
    }
    return Sample("istio_requests_total", labels, count)


ENCRYPTED, OPEN = sent(1), sent(1, "unknown")


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        pytest.param([], [ENCRYPTED], Outcome.MTLS, id="the server showed a certificate"),
        pytest.param([], [OPEN], Outcome.PLAINTEXT, id="it showed none"),
        pytest.param([], [sent(1, "")], Outcome.PLAINTEXT, id="an empty label says the same"),
        pytest.param([sent(7)], [sent(7), OPEN], Outcome.PLAINTEXT, id="what was before does not count"),
        pytest.param([sent(7), OPEN], [sent(8), OPEN], Outcome.MTLS, id="plaintext of before does not count"),
        pytest.param([], [ENCRYPTED, OPEN], Outcome.UNKNOWN, id="one of each"),
        pytest.param([sent(7)], [sent(7)], None, id="nothing was counted"),
        pytest.param([], [], None, id="a proxy that counts nothing"),
        pytest.param([], [sent(3, by="destination")], None, id="what it received is not what it sent"),
        pytest.param([], [OPEN, sent(1, host="other.shop.svc")], Outcome.PLAINTEXT, id="what others were sent"),
        pytest.param([], [OPEN, sent(1, code="503")], Outcome.PLAINTEXT, id="another answer is another request's"),
        pytest.param([], [sent(1, host="unknown")], Outcome.MTLS, id="an address without a name"),
        pytest.param([sent(9)], [sent(1)], None, id="a proxy that was started again tells at the next request"),
    ],
)
def test_what_was_added_tells(before: list[Sample], after: list[Sample], outcome: Outcome | None) -> None:
    assert outcome_between(before, after, "backend.shop.", 200) is outcome


def test_two_series_of_one_edge_are_one() -> None:
    other = Sample("istio_requests_total", {**ENCRYPTED.labels, "response_flags": "DC"}, 4)
    assert outcome_between([ENCRYPTED, other], [ENCRYPTED, other, OPEN], "backend.shop.", 200) is Outcome.PLAINTEXT


@pytest.mark.parametrize(
    ("flags", "outcome"),
    [
        pytest.param("FI", Outcome.REFUSED, id="an injected fault"),
        pytest.param("UH", Outcome.REFUSED, id="no healthy upstream"),
        pytest.param("URX,UF", Outcome.REFUSED, id="no connection, tried again"),
        pytest.param("UT", Outcome.PLAINTEXT, id="a timeout of a request that was sent"),
    ],
)
def test_what_the_proxy_answered_itself_was_not_carried_at_all(flags: str, outcome: Outcome) -> None:
    assert outcome_between([], [sent(1, "unknown", code="503", flags=flags)], "backend.shop.", 503) is outcome
