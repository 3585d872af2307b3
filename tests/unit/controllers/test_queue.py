"""The reconcile queue: one call at a time per key, none lost, failures retried."""

import asyncio
import time

import pytest

from labkit.embedded.apiclient import ApiError
from labkit.embedded.controllers.queue import ReconcileQueue, retry_delay


class Recorder:
    """A reconciler that notes its calls, and how many of one key ran at once."""

    def __init__(self, seconds: float = 0.0, failures: int = 0, error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.seconds = seconds
        self.failures = failures
        self.error = error or ValueError("a defect")
        self.running: dict[str, int] = {}
        self.most_at_once = 0

    async def __call__(self, key: str) -> float | None:
        self.calls.append(key)
        self.running[key] = self.running.get(key, 0) + 1
        self.most_at_once = max(self.most_at_once, self.running[key])
        await asyncio.sleep(self.seconds)
        self.running[key] -= 1
        if len(self.calls) <= self.failures:
            raise self.error
        return None


async def until(condition, seconds: float = 2.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited state did not come"
        await asyncio.sleep(0.001)


@pytest.fixture
async def start():
    queues = []

    def start(reconcile, **options):
        queue = ReconcileQueue("test", reconcile, **options)
        queue.start()
        queues.append(queue)
        return queue

    yield start
    for queue in queues:
        await queue.close()


async def test_a_key_is_reconciled_at_once(start):
    seen = Recorder()
    start(seen).add("a")
    await until(lambda: seen.calls == ["a"])


async def test_a_key_added_while_it_is_reconciled_is_reconciled_once_more(start):
    seen = Recorder(seconds=0.02)
    queue = start(seen)
    queue.add("a")
    await until(lambda: seen.calls == ["a"])
    for _ in range(5):
        queue.add("a")
    await until(lambda: seen.calls == ["a", "a"])
    await asyncio.sleep(0.05)
    assert seen.calls == ["a", "a"], "five changes during one reconciliation need one more, not five"


async def test_one_key_never_runs_twice_at_once(start):
    seen = Recorder(seconds=0.002)
    queue = start(seen)
    for _ in range(30):
        queue.add("a")
        await asyncio.sleep(0.001)
    await until(lambda: not any(seen.running.values()))
    assert seen.most_at_once == 1


async def test_different_keys_run_side_by_side_up_to_the_limit(start):
    running, most = 0, 0

    async def reconcile(_key):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    queue = start(reconcile, concurrency=3)
    for key in "abcdefgh":
        queue.add(key)
    await until(lambda: most and not running)
    assert most == 3


async def test_nothing_is_reconciled_before_the_start():
    seen = Recorder()
    queue = ReconcileQueue("test", seen)
    queue.add("b")
    queue.add("a")
    queue.add("a")
    await asyncio.sleep(0.01)
    assert seen.calls == []
    queue.start()
    await until(lambda: seen.calls == ["a", "b"])
    await queue.close()


@pytest.mark.parametrize(
    "error",
    [ApiError(409, "Conflict", "somebody was faster"), ApiError(500, "InternalError", "no"), ValueError("a defect")],
    ids=["conflict", "server error", "defect of ours"],
)
async def test_a_failure_is_retried_until_it_succeeds(start, error):
    seen = Recorder(failures=3, error=error)
    start(seen).add("a")
    await until(lambda: len(seen.calls) == 4)
    await asyncio.sleep(0.05)
    assert len(seen.calls) == 4, "after a success it is not called again"


async def test_what_is_refused_because_its_namespace_ends_is_not_tried_again(start):
    ending = "unable to create new content in namespace shop because it is being terminated"
    seen = Recorder(failures=99, error=ApiError(403, "Forbidden", f'pods "p" is forbidden: {ending}'))
    start(seen).add("a")
    other = Recorder(failures=1, error=ApiError(403, "Forbidden", 'pods "p" is forbidden: no'))
    start(other).add("a")
    await until(lambda: len(other.calls) == 2)
    await asyncio.sleep(0.05)
    assert len(seen.calls) == 1


async def test_a_failure_of_one_key_does_not_delay_another(start):
    calls = []

    async def reconcile(key):
        calls.append(key)
        if key == "bad":
            raise ValueError

    queue = start(reconcile)
    for _ in range(4):
        queue.add("bad")
        await asyncio.sleep(0.01)
    queue.add("good")
    await until(lambda: "good" in calls, seconds=0.05)


async def test_of_two_later_wishes_the_earlier_counts(start):
    seen = Recorder()
    queue = start(seen)
    queue.add_after("a", 30)
    queue.add_after("a", 0.01)
    queue.add_after("a", 20)
    await until(lambda: seen.calls == ["a"], seconds=0.5)


async def test_a_closed_queue_does_nothing_more():
    seen = Recorder(seconds=10)
    queue = ReconcileQueue("test", seen)
    queue.start()
    queue.add("a")
    queue.add_after("b", 0.01)
    await until(lambda: seen.calls == ["a"])
    await queue.close()
    queue.add("c")
    await asyncio.sleep(0.03)
    assert seen.calls == ["a"]
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 0.005), (2, 0.01), (5, 0.08), (12, 10.0), (10_000, 10.0)], ids=str
)
def test_the_pause_doubles_up_to_a_limit(failures, seconds):
    assert retry_delay(failures) == pytest.approx(seconds)
