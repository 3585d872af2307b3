"""What a Job does next, from the numbers of its pods."""

from datetime import UTC, datetime, timedelta

import pytest

from labkit.embedded.controllers.job import decide, is_finished
from labkit.embedded.controllers.objects import timestamp

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def job(started=None, conditions=(), **spec):
    status = {"conditions": list(conditions)} | ({"startTime": timestamp(started)} if started else {})
    return {"metadata": {"name": "j"}, "spec": {"parallelism": 1, "completions": 1, **spec}, "status": status}


@pytest.mark.parametrize(
    ("wanted", "pods", "create", "delete", "finished"),
    [
        pytest.param(job(), (0, 0, 0), 1, 0, "", id="the first pod"),
        pytest.param(job(), (1, 0, 0), 0, 0, "", id="it runs"),
        pytest.param(job(), (0, 1, 0), 0, 0, "Complete", id="it succeeded"),
        pytest.param(job(), (0, 0, 1), 1, 0, "", id="it failed: another"),
        pytest.param(job(backoffLimit=0), (0, 0, 1), 0, 0, "Failed", id="it failed and may not be tried again"),
        pytest.param(job(backoffLimit=2), (1, 0, 2), 0, 0, "", id="failed as often as it may"),
        pytest.param(job(parallelism=3, completions=5), (0, 0, 0), 3, 0, "", id="as many as may run side by side"),
        pytest.param(job(parallelism=3, completions=5), (0, 4, 0), 1, 0, "", id="no more than are missing"),
        pytest.param(job(parallelism=3, completions=5), (0, 5, 0), 0, 0, "Complete", id="all succeeded"),
        pytest.param(job(parallelism=1, completions=5), (3, 0, 0), 0, 2, "", id="fewer side by side than before"),
        pytest.param(job(completions=None, parallelism=2), (0, 0, 0), 2, 0, "", id="a queue: workers start"),
        pytest.param(job(completions=None, parallelism=2), (1, 1, 0), 0, 0, "", id="a queue: the rest finish"),
        pytest.param(job(completions=None, parallelism=2), (0, 2, 0), 0, 0, "Complete", id="a queue: all done"),
        pytest.param(job(suspend=True), (2, 0, 0), 0, 2, "", id="suspended"),
    ],
)
def test_the_next_step(wanted, pods, create, delete, finished):
    plan = decide(wanted, *pods, NOON)
    assert (plan.create, plan.delete, plan.finished) == (create, delete, finished)


def test_a_job_that_runs_too_long_fails_and_not_before():
    wanted = job(started=NOON, activeDeadlineSeconds=10)
    early = decide(wanted, 1, 0, 0, NOON + timedelta(seconds=4))
    assert (early.finished, early.wait) == ("", 6.0)
    late = decide(wanted, 1, 0, 0, NOON + timedelta(seconds=10))
    assert (late.finished, late.reason, late.delete) == ("Failed", "DeadlineExceeded", 1)


@pytest.mark.parametrize(
    ("conditions", "finished"),
    [
        ((), False),
        ([{"type": "Complete", "status": "True"}], True),
        ([{"type": "Failed", "status": "True"}], True),
        ([{"type": "Suspended", "status": "True"}], False),
    ],
    ids=["none", "complete", "failed", "suspended"],
)
def test_when_a_job_is_finished(conditions, finished):
    assert is_finished(job(conditions=conditions)) is finished
