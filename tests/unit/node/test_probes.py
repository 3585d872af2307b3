from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from labkit.embedded.node import probes
from labkit.embedded.node.probes import Result, Target, Timing, Verdict, attempt, follow


@pytest.fixture
async def server() -> AsyncIterator[tuple[Target, list[bytes]]]:
    """Answers /<status> with that status, /silent with nothing."""
    heard: list[bytes] = []

    open_ones: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        open_ones.add(task)
        try:
            await _answer(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a TCP probe asks nothing
        finally:
            writer.close()
            open_ones.discard(task)

    async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        heard.append(request)
        path = request.split()[1].decode().strip("/")
        if path.isdigit():
            writer.write(f"HTTP/1.1 {path} Whatever\r\nContent-Length: 0\r\n\r\n".encode())
        elif path == "slow":
            await asyncio.sleep(5)

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    yield Target("127.0.0.1", {"http": port, "closed": 1}, _run), heard
    listener.close()
    for task in list(open_ones):
        task.cancel()
    await asyncio.gather(*open_ones)
    await asyncio.sleep(0)  # the transports close their sockets


async def _run(command: list[str], timeout: float) -> Result:
    return Result(command == ["true"], f"ran {command[0]}")


def http(path: str, port: str = "http", **more: Any) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": port, **more}}


@pytest.mark.parametrize(
    ("probe", "ok", "words"),
    [
        pytest.param(http("/200"), True, "", id="200"),
        pytest.param(http("/302"), True, "", id="a-redirection-is-a-success"),
        pytest.param(http("/404"), False, "HTTP probe failed with statuscode: 404", id="404"),
        pytest.param(http("/silent"), False, "EOF", id="no-answer"),
        pytest.param(
            http("/", "closed"), False, "dial tcp 127.0.0.1:1: connect: connection refused", id="nobody-listens"
        ),
        pytest.param(http("/", "unknown"), False, "does not have", id="a-port-name-that-does-not-exist"),
        pytest.param({"tcpSocket": {"port": "http"}}, True, "", id="tcp"),
        pytest.param(
            {"tcpSocket": {"port": "closed"}},
            False,
            "dial tcp 127.0.0.1:1: connect: connection refused",
            id="tcp-refused",
        ),
        pytest.param({"exec": {"command": ["true"]}}, True, "", id="exec"),
        pytest.param({"exec": {"command": ["false"]}}, False, "ran false", id="exec-failed"),
    ],
)
async def test_one_attempt(server: Any, probe: dict[str, Any], ok: bool, words: str):
    result = await attempt(probe, server[0])
    assert result.ok is ok
    assert words in result.message


async def test_an_answer_that_takes_too_long_is_a_failure(server: Any):
    assert (await attempt({**http("/slow"), "timeoutSeconds": 1}, server[0])).message == "timed out after 1 s"


async def test_headers_are_sent(server: Any):
    target, heard = server
    await attempt(http("200", httpHeaders=[{"name": "X-Color", "value": "red"}]), target)
    assert b"GET /200 HTTP/1.1" in heard[0] and b"X-Color: red" in heard[0] and b"kube-probe" in heard[0]


def test_numbers_have_the_defaults_of_the_api():
    assert Timing.of({}) == Timing(0, 10, 1, 3, 1)


class NoMoreAnswersError(BaseException):
    """Ends a Script: any Exception would be a failed attempt."""


class Script:
    """Answers of a probe, one per attempt, and a clock that moves when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: str) -> None:
        self.answers, self.now, self.sleeps = list(answers), 0.0, list[float]()
        monkeypatch.setattr(probes.asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps.append(seconds)

    async def run(self, **probe: Any) -> list[Verdict]:
        async def answer(command: list[str], timeout: float) -> Result:
            if not self.answers:
                raise NoMoreAnswersError
            return Result(self.answers.pop(0) == "+", "no")

        found = []
        try:
            target = Target("", {}, answer)
            async for verdict in follow({"exec": {"command": ["x"]}, **probe}, target, clock=lambda: self.now):
                found.append(verdict)
        except NoMoreAnswersError:
            pass
        return found


async def test_a_first_success_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch):
    script = Script(monkeypatch, "--+")
    assert [v.healthy for v in await script.run(periodSeconds=10)] == [True]
    assert script.now - script.sleeps[-1] < 0.1


async def test_early_failures_count_at_the_probes_own_pace(monkeypatch: pytest.MonkeyPatch):
    script = Script(monkeypatch, "-" * 60)
    verdicts = await script.run(periodSeconds=1, failureThreshold=2)
    assert [v.healthy for v in verdicts[:3]] == [None, False, False]
    assert len(verdicts) < 60


async def test_failures_within_the_initial_delay_do_not_count(monkeypatch: pytest.MonkeyPatch):
    script = Script(monkeypatch, "-" * 20)
    assert await script.run(periodSeconds=1, initialDelaySeconds=1000) == []


async def test_after_a_success_failures_are_counted_up_to_the_threshold(monkeypatch: pytest.MonkeyPatch):
    script = Script(monkeypatch, "+--+---")
    verdicts = await script.run(periodSeconds=5, failureThreshold=3)
    assert [v.healthy for v in verdicts] == [True, None, None, True, None, None, False]
    assert script.sleeps[1:] == [5.0] * 6


async def test_several_successes_may_be_asked_for(monkeypatch: pytest.MonkeyPatch):
    script = Script(monkeypatch, "++")
    assert [v.healthy for v in await script.run(successThreshold=2)] == [None, True]


async def test_waiting_for_the_first_success_becomes_slow(monkeypatch: pytest.MonkeyPatch):
    script = Script(monkeypatch, "-" * 60)
    await script.run(periodSeconds=10)
    assert script.sleeps[0] == pytest.approx(0.025) and script.sleeps[-1] == 10


@pytest.mark.parametrize("steps", range(5))
async def test_a_probe_can_be_ended_at_the_very_moment_at_which_an_attempt_ends(
    monkeypatch: pytest.MonkeyPatch, steps: int
):
    # As when a process dies: its port refuses the connection, and the node ends the probe.
    died = asyncio.Event()

    async def refused(*_: Any) -> Result:
        await died.wait()
        raise ConnectionRefusedError

    async def judge() -> None:
        async for _ in follow({"tcpSocket": {"port": 1}}, Target("127.0.0.1", {}, lambda *_: refused())):
            pass

    monkeypatch.setattr(probes, "_tcp", refused)
    judging = asyncio.create_task(judge())
    for _ in range(3):
        await asyncio.sleep(0)
    died.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    judging.cancel()
    await asyncio.wait({judging}, timeout=0.5)
    was_ended = judging.cancelled()
    judging.cancel()
    assert was_ended


@pytest.mark.parametrize("error", [ConnectionResetError(), KeyError("port"), RuntimeError("two\nlines")])
async def test_whatever_keeps_a_probe_from_being_tried_is_a_failure(error: Exception):
    async def failing(*_: Any) -> Result:
        raise error

    result = await attempt({"exec": {"command": ["x"]}}, Target("", {}, failing))
    assert not result.ok and result.message and "\n" not in result.message
