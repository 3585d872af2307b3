"""Traffic from a client to a server, as steady as a clock: the client's own curl, run in its pod until it is stopped.

One curl sends many requests, each on a connection of its own, and prints a line for each; so a hundred requests cost
one `exec`. Should the kernel die, the pod's curl ends by itself after its last request, at most half a minute later.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labkit.cluster import Cluster
from labkit.errors import InputError, LabError
from labkit.observe import traffic
from labkit.observe.objects import app_container, find_workload, is_injected, name_of
from labkit.outcomes import Outcome

ROUND_SECONDS = 20  # so long one curl sends before the next one is started
MOST_PER_SECOND, MOST_AT_ONCE = 200, 20
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Answer:
    """Some requests that ended alike: HTTP status (0 for none), curl's exit code, how many."""

    status: int
    exit_code: int
    number: int


@dataclass(frozen=True)
class Orders:
    """Who sends what, how often and how many at a time."""

    client: str  # namespace/workload
    url: str
    rps: float = 2.0
    concurrency: int = 1
    data: str = ""

    def check(self) -> None:
        """Raise InputError when nobody could send so."""
        traffic.address_of(self.url)
        if not 0 < self.rps <= MOST_PER_SECOND or not 1 <= self.concurrency <= MOST_AT_ONCE:
            raise InputError(
                f"{self.rps:g} requests per second, {self.concurrency} at a time, cannot be sent.",
                meaning=f"A source sends up to {MOST_PER_SECOND} per second, from 1 to {MOST_AT_ONCE} at a time.",
                next_step="Choose numbers within that.",
            )

    def command(self) -> list[str]:
        """curl's line for one of the concurrent senders, for one round."""
        each = self.rps / self.concurrency
        # --rate takes whole numbers: fewer than one a second are so many a minute.
        rate = f"{round(each)}/s" if each >= 2 else f"{max(1, round(each * 60))}/m"
        number = max(1, round(each * ROUND_SECONDS))
        line = ["curl", "-s", "-o", "/dev/null", "--max-time", "5", "--rate", rate, "-H", "Connection: close"]
        line += ["-w", r"%{stderr}%{http_code} %{exitcode}\n"]  # standard error is not buffered
        if self.data:
            line += ["-H", "Content-Type: application/json", "-d", self.data]
        return [*line, f"{self.url}#[1-{number}]"]  # curl counts in the fragment, and sends no fragment


def outcome_of(answer: Answer, *, injected: bool) -> Outcome:
    """How a request was carried, as far as its client can tell: with a sidecar it cannot."""
    if answer.exit_code in traffic.REFUSED_EXITS or (answer.status == 503 and injected):
        return Outcome.REFUSED
    if answer.status and not injected:
        return Outcome.PLAINTEXT
    return Outcome.UNKNOWN


class Sender:
    """Sends until it is stopped; `told` hears what came back, in a thread of the sender's own."""

    def __init__(
        self, connect: Callable[[], Cluster], orders: Orders, told: Callable[[Orders, Answer, bool], None]
    ) -> None:
        self.orders = orders
        self.problem = ""
        self.answers: Counter[tuple[int, int]] = Counter()
        """(HTTP status, or 0 for none; curl's exit code) -> how many requests ended so."""
        self._connect, self._told = connect, told
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"labkit sends from {orders.client}", daemon=True)
        self._thread.start()

    @property
    def sent(self) -> int:
        """The requests that ended, one way or another."""
        return self.answers.total()

    @property
    def failed(self) -> int:
        """Those that were not answered, or not with success."""
        return sum(number for (status, code), number in self.answers.items() if code or not 200 <= status < 400)

    @property
    def running(self) -> bool:
        return self._thread.is_alive() and not self._stopped.is_set()

    def stop(self, limit: float = 2.0) -> None:
        """Stop, and wait a moment for the connections to be dropped."""
        self._stopped.set()
        self._thread.join(limit)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._round()
                self.problem = ""
            except LabError as error:  # the pod is being replaced, the cluster restarts: try again
                self.problem = error.what
                self._stopped.wait(1.0)

    def _round(self) -> None:
        cluster = self._connect()
        reference = find_workload(cluster, self.orders.client)
        pod = reference.ready_pod()
        command = self.orders.command()
        streams = [
            cluster.stream(name_of(pod), reference.namespace, command, container=app_container(pod))
            for _ in range(self.orders.concurrency)
        ]
        injected, read = is_injected(pod), [0] * len(streams)
        until = time.monotonic() + ROUND_SECONDS + 10
        try:
            while not self._stopped.is_set() and time.monotonic() < until:
                ended = all(stream.ended.is_set() for stream in streams)
                for index, stream in enumerate(streams):
                    read[index] = self._tell(stream, read[index], injected)
                if ended:
                    break
                self._stopped.wait(LOOK_SECONDS)
        finally:
            for stream in streams:
                stream.close()
        if not any(read) and not self._stopped.is_set():
            raise InputError(f"{self.orders.client} could not send: {streams[0].failure or streams[0].stderr[:200]}")

    def _tell(self, stream: Any, read: int, injected: bool) -> int:
        whole, newline, _ = stream.stderr[read:].rpartition("\n")
        if not newline:
            return read
        counts: dict[tuple[int, int], int] = {}
        for line in whole.split("\n"):
            status, _, code = line.partition(" ")
            if status.isdigit() and code.strip().isdigit():
                key = int(status), int(code)
                counts[key] = counts.get(key, 0) + 1
        for (status, code), number in counts.items():
            self.answers[status, code] += number
            self._told(self.orders, Answer(status, code, number), injected)
        return read + len(whole) + 1
