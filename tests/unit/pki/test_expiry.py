"""When a certificate is worth a warning, and how durations are read and said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from labkit.errors import InputError
from labkit.pki import CertificateAuthority, describe_certificate
from labkit.pki.expiry import State, parse_duration, say_duration, state_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.mark.parametrize(
    ("lifetime", "left", "rotates", "threshold", "state"),
    [
        (365 * DAY, 30 * DAY, False, 7 * DAY, State.OK),
        (365 * DAY, 6 * DAY, False, 7 * DAY, State.SOON),
        (365 * DAY, 6 * DAY, False, 5 * DAY, State.OK),
        (5 * DAY, 4 * DAY, False, 7 * DAY, State.SOON),
        # A workload's lives a day, and is replaced at half time.
        (DAY, 23 * HOUR, True, 7 * DAY, State.OK),
        (DAY, 11 * HOUR, True, 7 * DAY, State.OK),
        (DAY, 7 * HOUR, True, 7 * DAY, State.OVERDUE),
        (DAY, 7 * HOUR, True, 1 * HOUR, State.OVERDUE),
        (DAY, 23 * HOUR, False, 7 * DAY, State.SOON),
        (90 * DAY, 40 * DAY, True, 60 * DAY, State.SOON),
        (DAY, -HOUR, True, 7 * DAY, State.EXPIRED),
        (365 * DAY, -HOUR, False, 7 * DAY, State.EXPIRED),
        (DAY, 25 * HOUR, True, 7 * DAY, State.NOT_YET),
    ],
)
def test_states(lifetime: timedelta, left: timedelta, rotates: bool, threshold: timedelta, state: State) -> None:
    leaf = CertificateAuthority.self_signed("ca").issue(ttl=lifetime, not_before=NOW + left - lifetime)
    assert state_of(describe_certificate(leaf.cert_pem), NOW, threshold, rotates=rotates) is state


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("7d", 7 * DAY),
        ("36h", 36 * HOUR),
        ("1d12h", 36 * HOUR),
        ("90m", 1.5 * HOUR),
        ("2w", 14 * DAY),
        ("1.5h", 1.5 * HOUR),
    ],
)
def test_durations_are_read(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "soon", "7", "7 days", "d", "-7d", "7y"])
def test_other_words_are_no_duration(text: str) -> None:
    with pytest.raises(InputError, match="is no duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (3649 * DAY, "3649d"),
        (2 * DAY + 3 * HOUR, "2d3h"),
        (23 * HOUR + timedelta(minutes=58), "23h58m"),
        (timedelta(minutes=12, seconds=5), "12m"),
        (timedelta(seconds=5), "5s"),
        (-2 * HOUR, "2h0m ago"),
    ],
)
def test_durations_are_said(left: timedelta, text: str) -> None:
    assert say_duration(left) == text
