"""What was counted, second by second: windows, marks, what is forgotten."""

from __future__ import annotations

from labkit.live.ledger import Ledger, Sighting
from labkit.outcomes import Outcome
from labkit.views.map import EdgeState

EDGE = ("foo/client", "foo/server")


def seen(outcome: Outcome = Outcome.MTLS, number: int = 1, **facts: object) -> Sighting:
    return Sighting(*EDGE, outcome, number, **facts)  # type: ignore[arg-type]


def test_the_window_holds_the_last_seconds_and_no_others() -> None:
    ledger = Ledger()
    for second in range(100, 120):
        ledger.add(seen(), second)
    counts = ledger.counted(now=119.5, window=10)[EDGE]
    assert (counts.mtls, counts.window, counts.rate) == (10, 10, 1.0)


def test_nothing_of_before_a_change_is_counted_after_it() -> None:
    ledger = Ledger()
    for second in range(100, 110):
        ledger.add(seen(Outcome.PLAINTEXT), second)
    for second in range(110, 114):
        ledger.add(seen(Outcome.REFUSED), second)
    mixed = ledger.counted(now=113.9, window=10)[EDGE]
    assert mixed.state is EdgeState.MIXED
    after = ledger.counted(now=113.9, window=10, since=109.5)[EDGE]
    assert (after.state, after.refused, after.window) == (EdgeState.REFUSED, 4, 113.9 - 109)


def test_probes_are_on_the_timeline_and_not_in_the_rate() -> None:
    ledger = Ledger()
    ledger.add(seen(probe=True), 100)
    assert ledger.counted(now=100.5) == {}
    assert [one.mtls for one in ledger.series(100.5).seconds] == [1]


def test_success_is_what_was_answered_well() -> None:
    ledger = Ledger()
    ledger.add(seen(number=10, failed=4), 100)
    ledger.add(seen(Outcome.REFUSED, 3), 100)
    (second,) = ledger.series(101).seconds
    assert (second.success, second.mtls, second.refused) == (6, 10, 3)


def test_a_quarter_of_an_hour_is_kept_and_no_more() -> None:
    ledger = Ledger(kept=60)
    for second in range(1000):
        ledger.add(seen(), second)
    ledger.mark("old", 1.0)
    ledger.mark("new", 990.0)
    series = ledger.series(999.5)
    assert len(series.seconds) <= 60 and series.seconds[-1].at == 999
    assert [mark.text for mark in series.marks] == ["new"]


def test_one_change_is_one_mark() -> None:
    ledger = Ledger()
    ledger.mark("PeerAuthentication foo/default changed", 100.0)
    ledger.mark("PeerAuthentication foo/default changed", 100.2)
    assert len(ledger.series(101).marks) == 1
