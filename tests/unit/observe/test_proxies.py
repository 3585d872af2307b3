"""What istiod says of a proxy, as a row."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from labkit.observe.proxies import COLUMNS, read_status

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SYNCED = {"status": "SYNCED", "acked": "a1", "newest": "a1", "acked_at": "2026-11-21T11:59:48.000Z"}


def entry(**types: object) -> dict[str, object]:
    return {"proxy": "a-1.foo", "cluster_id": "Kubernetes", "istio_version": "1.24.0-labkit", "types": types}


def test_a_row_has_istioctls_columns() -> None:
    status = read_status(entry(CDS=SYNCED, LDS=SYNCED, SDS=SYNCED), "istiod")
    assert dict(zip(COLUMNS, status.row(NOON), strict=True)) == {
        "NAME": "a-1.foo",
        "CLUSTER": "Kubernetes",
        "CDS": "SYNCED (12s)",
        "LDS": "SYNCED (12s)",
        "SDS": "SYNCED (12s)",
        "ISTIOD": "istiod",
        "VERSION": "1.24.0-labkit",
    }
    assert status.synced


def test_one_type_that_is_not_synced_is_enough() -> None:
    error = {"status": "ERROR", "acked": "a1", "newest": "a2", "error": "no such filter"}
    status = read_status(entry(CDS=SYNCED, LDS=error), "istiod")
    assert not status.synced
    assert status.row(NOON)[3:5] == ("ERROR", "NOT SENT")
    assert status.errors == {"LDS": "no such filter"}


@pytest.mark.parametrize(
    ("moment", "age"), [("11:59:59", "1s"), ("11:58:10", "110s"), ("11:55:00", "5m"), ("09:00:00", "3h")]
)
def test_ages_are_short(moment: str, age: str) -> None:
    one = {**SYNCED, "acked_at": f"2026-11-21T{moment}.000Z"}
    assert read_status(entry(CDS=one), "istiod").row(NOON)[2] == f"SYNCED ({age})"
