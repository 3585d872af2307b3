"""The one process of an embedded cluster: API server, controllers and node in one event loop.

Run as `python -m labkit.embedded.supervisor --name NAME`, in a process session of its own, by `lifecycle.up`.
It writes its pid file and a heartbeat, tells its starter through a pipe when all parts are ready (or why not), and
ends on SIGTERM, when the process given by `--until-pid` ends, or after an idle time. However it ends on its own
account, it ends the pods' processes first. Killed with -9 it leaves them, recorded, for the next start to adopt
or for `lifecycle.down` to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import click
import psutil

from labkit.embedded.apiserver import ApiServer
from labkit.embedded.blocks import claim_block
from labkit.embedded.controllers import Controllers
from labkit.embedded.node import Node
from labkit.embedded.paths import ClusterPaths
from labkit.errors import InternalError, LabError

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
"""Often enough that 'is it alive?' is answered within seconds; a touch of one file costs nothing measurable."""


class Supervisor:
    """Starts the parts of one cluster in order, waits for a reason to end, stops them in reverse."""

    def __init__(self, paths: ClusterPaths, *, idle_seconds: float, until_pid: int | None) -> None:
        self.paths = paths
        self.idle_seconds = idle_seconds
        self.until_pid = until_pid
        self.ending = asyncio.Event()
        self.reason = ""

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Bring the cluster up, call `on_ready` once all parts answer, and stay until it is time to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end, f"signal {number.name}")
        block = claim_block(self.paths)
        async with contextlib.AsyncExitStack() as stack:
            api = ApiServer(paths=self.paths, block=block)
            await api.start()
            stack.push_async_callback(api.stop)
            self._write_pid_file(block)
            stack.callback(self.paths.pid_file.unlink, missing_ok=True)
            controllers = Controllers(kubeconfig=self.paths.kubeconfig)
            await controllers.start()
            stack.push_async_callback(controllers.stop)
            node = Node(paths=self.paths, block=block, kubeconfig=self.paths.kubeconfig)
            await node.start()
            stack.push_async_callback(node.stop, keep_pods=False)
            on_ready()
            with self._watch_parent():
                await self._live(api)
            log.info("ending: %s", self.reason)

    def end(self, reason: str) -> None:
        """Ask the cluster to end; the first reason is kept."""
        self.reason = self.reason or reason
        self.ending.set()

    async def _live(self, api: ApiServer) -> None:
        while not self.ending.is_set():
            try:
                self.paths.heartbeat.touch()
            except FileNotFoundError:
                self.end("its state directory is gone")
            if self.idle_seconds and time.monotonic() - api.last_used > self.idle_seconds:
                self.end(f"nobody used the API for {self.idle_seconds:.0f} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self.ending.wait()

    @contextlib.contextmanager
    def _watch_parent(self):  # type: ignore[no-untyped-def]
        """End when the process `until_pid` (a Jupyter server) ends, told by the kernel, not by polling."""
        if self.until_pid is None:
            yield
            return
        try:
            descriptor = os.pidfd_open(self.until_pid)
        except ProcessLookupError:
            self.end(f"process {self.until_pid} is gone")
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, self.end, f"process {self.until_pid} ended")
        try:
            yield
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def _write_pid_file(self, block: int) -> None:
        record = {"pid": os.getpid(), "create_time": psutil.Process().create_time(), "block": block}
        aside = self.paths.pid_file.with_suffix(".new")
        aside.write_text(json.dumps(record))
        aside.replace(self.paths.pid_file)


def _report(descriptor: int, message: dict[str, object]) -> None:
    """Tell the starter how it went. The starter may be gone, which is no reason to fail."""
    if descriptor < 0:
        return
    with contextlib.suppress(OSError):
        os.write(descriptor, json.dumps(message).encode() + b"\n")


@click.command()
@click.option("--name", required=True, help="Name of the cluster.")
@click.option("--idle", default=0.0, help="End after so many seconds without a request; 0 is never.")
@click.option("--until-pid", type=int, default=None, help="End when this process ends.")
@click.option("--report-fd", default=-1, help="File descriptor to report readiness on.")
def main(name: str, idle: float, until_pid: int | None, report_fd: int) -> None:
    """Run one embedded cluster until it is told to end."""
    if os.fork():
        os._exit(0)  # the starter waits for this one; the cluster itself is nobody's child
    _report(report_fd, {"pid": os.getpid()})
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    paths = ClusterPaths(name).make()
    reported = False

    def on_ready() -> None:
        nonlocal reported
        reported = True
        _report(report_fd, {"ready": True})
        if report_fd >= 0:
            os.close(report_fd)

    try:
        supervisor = Supervisor(paths, idle_seconds=idle, until_pid=until_pid)
        asyncio.run(supervisor.run(on_ready))
    except Exception as error:
        log.exception("the cluster could not be run")
        if not reported:
            lab_error = (
                error if isinstance(error, LabError) else InternalError(f"The cluster failed to start: {error!r}.")
            )
            _report(
                report_fd,
                {
                    "error": type(lab_error).__name__,
                    "what": lab_error.what,
                    "meaning": lab_error.meaning,
                    "next_step": lab_error.next_step or f"Read {_tilde(paths.log_file)}.",
                },
            )
        raise SystemExit(1) from error


def _tilde(path: Path) -> str:
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if home != "/" else str(path)


if __name__ == "__main__":
    main()
