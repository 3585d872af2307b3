"""One container: started, watched, probed, started again with back-off, and ended.

A Container writes what it knows into its record and says `changed`; how a pod looks is decided in `status`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from labkit.embedded.apiclient import Object
from labkit.embedded.node import probes
from labkit.embedded.node.console import Console, run_and_capture
from labkit.embedded.node.environment import ContainerConfigError
from labkit.embedded.node.processes import Exit, Process, container_mark, kill_all, marked_processes, pod_mark
from labkit.embedded.node.sandbox import ProgramNotFoundError, Sandbox
from labkit.embedded.node.status import is_sidecar, timestamp, waiting
from labkit.embedded.node.tasks import end_tasks
from labkit.errors import LabError

log = logging.getLogger(__name__)

FIRST_BACKOFF, LAST_BACKOFF = 1.0, 60.0
"""Seconds between restarts, doubled each time. The kubelet's are 10 and 300; a lesson has not that much time."""

BACKOFF_RESET = 120.0
"""Who ran for so many seconds has recovered (the kubelet: 600)."""

FIRST_RETRY, LAST_RETRY = 0.25, 10.0
"""Seconds between attempts to start at all: the missing ConfigMap may be the next object of the same manifest."""

LOGS_KEPT = 3
EPOCH = "1970-01-01T00:00:00Z"


def first_line(error: Exception) -> str:
    """What an error says, for an event; its name when it says nothing."""
    return (str(error).splitlines() or [repr(error)])[0]


class Container:
    """Runs one container of a pod until it has ended for good or `terminate` is called."""

    def __init__(
        self,
        sandbox: Sandbox,
        spec: Object,
        *,
        init: bool = False,
        ephemeral: bool = False,
        changed: Callable[[], None],
    ) -> None:
        self.sandbox = sandbox
        self.spec = spec
        self.name: str = spec["name"]
        self.init = init
        self.ephemeral = ephemeral
        self.record = sandbox.record.container(self.name)
        self.process: Process | None = None
        self.console: Console | None = None  # with stdin or tty: what `kubectl attach` talks to
        self.stopping = False
        self._changed = changed
        self._health: list[asyncio.Task[None]] = []
        self._backoff = 0.0
        self._is_started = asyncio.Event()
        self.post_started = asyncio.Event()
        """The postStart hook of this container was run, or there is none."""
        self._attempt_ended = asyncio.Event()

    # For others to look at

    @property
    def policy(self) -> str:
        """Always, OnFailure or Never. A completed init container is not started again, an ephemeral one never is."""
        if self.ephemeral:
            return "Never"
        policy = str(self.sandbox.pod["spec"].get("restartPolicy") or "Always")
        if self.init and not is_sidecar(self.spec):
            return "Never" if policy == "Never" else "OnFailure"
        return "Always" if is_sidecar(self.spec) else policy

    def log_file(self, attempt: int | None = None) -> Path:
        """The log of the present attempt, or of another one."""
        number = self.record.attempt if attempt is None else attempt
        return self.sandbox.directory / "logs" / self.name / f"{max(number - 1, 0)}.log"

    def ended_event(self, attempt: int) -> asyncio.Event:
        """Set once that attempt has ended; set at once for an earlier one."""
        if attempt == self.record.attempt and self.process and self.process.running:
            return self._attempt_ended
        over = asyncio.Event()
        over.set()
        return over

    # The life of a container

    async def run(self) -> None:
        """Until the container has ended and is not to be started again, whatever goes wrong on our side."""
        while True:
            try:
                return await self._run()
            except Exception as error:  # a full disk, a defect of ours: a container must not be lost silently
                log.exception("container %s of %s", self.name, self.sandbox.record.name)
                self._event("Warning", "Failed", f"Error: {first_line(error)}")
            await asyncio.sleep(LAST_RETRY)
            if self.process:
                self.process.release()  # adopted anew, or known to have ended

    async def _run(self) -> None:
        process = self._adopt()
        while not self.stopping:
            if process is None:
                process = await self._start_with_retries()
            ended_at = await self._live(process)
            process = None
            if self.stopping or not self._restarts():
                return
            await self._pause(ended_at)

    async def until_started(self) -> None:
        """For a native sidecar: until it runs and its startup probe, if any, has succeeded."""
        await self._is_started.wait()

    def lost(self) -> None:
        """The process ended while nobody watched."""
        self._ended(Exit(None))

    def _adopt(self) -> Process | None:
        """The process that an earlier supervisor started, if it still runs."""
        identity = self.record.identity
        process = Process.adopt(identity) if identity and self.record.running else None
        if process:
            self.sandbox.node.logs.watch(self.log_file())
        if process is None and self.record.running:
            self._kill_rest()
            self.lost()
            if self._restarts():
                self.record.last_state, self.record.state = self.record.state, {}
                self.record.restart_count += 1
            else:
                self.stopping = True
        return process

    async def _start_with_retries(self) -> Process | None:
        """Start the process; None when its program cannot be executed, which counts as an end."""
        pause = FIRST_RETRY
        while True:
            try:
                return await self._start()
            except ProgramNotFoundError as error:
                self._could_not_run(error.what)
                return None
            except ContainerConfigError as error:
                self._cannot_start(error.reason, error.what)
            except LabError as error:  # an API error, a malformed images.yaml
                self._cannot_start("CreateContainerConfigError", error.what)
            except aiohttp.ClientError as error:
                log.debug("%s: the API server does not answer: %r", self.name, error)
            except Exception as error:
                log.exception("container %s of %s cannot be started", self.name, self.sandbox.record.name)
                self._cannot_start("CreateContainerError", first_line(error))
            await asyncio.sleep(pause)  # back-off between attempts
            pause = min(pause * 2, LAST_RETRY)

    async def _start(self) -> Process:
        sandbox, spec = self.sandbox, self.spec
        image = sandbox.image_of(spec)
        env = await sandbox.environment(spec)
        sandbox.write_programs(spec, image)
        argv = sandbox.command(spec, image, env)
        self._event("Normal", "Pulled", f'Container image "{spec["image"]}" already present on machine')
        cwd = sandbox.working_directory(spec)
        # From here on without a pause: the attempt is recorded, then started, then recorded with its process.
        record = self.record
        record.attempt += 1
        record.process, record.ready, record.started = None, False, False
        sandbox.save()
        self.process = self._spawn(argv, env, cwd)
        record.process = self.process.identity.to_json()
        record.state = {"running": {"startedAt": timestamp()}}
        sandbox.note()
        sandbox.node.logs.watch(self.log_file())
        self._event("Normal", "Created", f"Created container: {self.name}")
        self._event("Normal", "Started", f"Started container {self.name}")
        self._changed()
        return self.process

    def _spawn(self, argv: list[str], env: dict[str, str], cwd: Path) -> Process:
        path = self.log_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.record.attempt > LOGS_KEPT:
            self.log_file(self.record.attempt - LOGS_KEPT).unlink(missing_ok=True)
        try:
            if self.spec.get("stdin") or self.spec.get("tty"):
                self.console = Console(path, tty=bool(self.spec.get("tty")))
                return self.console.start(argv, env=env, cwd=cwd)
            # Written by the process itself and not through us: it must survive us.
            with path.open("ab") as output:
                return Process.start(argv, env=env, cwd=cwd, stdout=output)
        except OSError as error:
            self._close_console()
            raise ProgramNotFoundError(f'exec: "{argv[0]}": {(error.strerror or "cannot execute").lower()}') from error
        except ValueError as error:  # a zero byte, half of a surrogate pair
            self._close_console()
            raise ProgramNotFoundError(f'exec: "{argv[0]}": invalid argument: {error}') from error

    def _close_console(self) -> None:
        if self.console:
            self.console.close()
            self.console = None

    async def _live(self, process: Process | None) -> float:
        """Watch a process to its end; how long it lived."""
        begun = time.monotonic()
        if process is None:
            return 0.0
        self.process = process
        self._health = [asyncio.create_task(self._watch_health(process), name=f"probes-{self.name}")]
        try:
            ended = await process.wait()
            self._kill_rest()
            # Before the probes are waited for: nothing that they do may hold it back.
            self._ended(ended)
        finally:
            await self._stop_health()
        return time.monotonic() - begun

    def _kill_rest(self) -> None:
        """What left the session of the process that ended, as a daemon does: it would keep its port."""
        pod = pod_mark(self.sandbox.node.paths.node_dir, self.sandbox.record.uid)
        kill_all(marked_processes(pod, container_mark(self.name)))

    def _ended(self, ended: Exit) -> None:
        """Record how the process ended."""
        record = self.record
        code = 137 if ended.code is None else ended.code
        reason = "Completed" if code == 0 else "Error"
        if ended.code is None:
            reason = "ContainerStatusUnknown"
        started = (record.state.get("running") or {}).get("startedAt", EPOCH)
        details: dict[str, Any] = {
            "exitCode": code,
            "reason": reason,
            "startedAt": started,
            "finishedAt": timestamp(),
            "containerID": f"labkit://{self.sandbox.record.uid}/{self.name}/{record.attempt}",
        }
        if ended.signal:
            details["signal"] = ended.signal
        if code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            details["message"] = self._last_lines()
        self._terminated(details)

    def _could_not_run(self, why: str) -> None:
        message = (
            f"failed to create containerd task: OCI runtime create failed: unable to start container process: {why}"
        )
        self._event("Warning", "Failed", f"Error: {message}")
        now = timestamp()
        self._terminated(
            {"exitCode": 128, "reason": "StartError", "message": message, "startedAt": EPOCH, "finishedAt": now}
        )

    def _terminated(self, details: dict[str, Any]) -> None:
        record = self.record
        record.state = {"terminated": details}
        record.process = None
        # A completed init container counts as ready, https://kubernetes.io/docs/concepts/workloads/pods/init-containers/
        record.ready = self.init and not is_sidecar(self.spec) and details["exitCode"] == 0
        record.started = False
        self.process = None
        self._attempt_ended.set()
        self._attempt_ended = asyncio.Event()
        self._close_console()
        self.sandbox.note()
        self._changed()

    def _last_lines(self) -> str:
        with contextlib.suppress(OSError), self.log_file().open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2048))
            return file.read().decode(errors="replace")
        return ""

    def _restarts(self) -> bool:
        return self.policy == "Always" or (self.policy == "OnFailure" and not self.record.succeeded)

    async def _pause(self, lived: float) -> None:
        """The back-off before the next start: none the first time, then 1 s, 2 s, 4 s ..."""
        if lived > BACKOFF_RESET:
            self._backoff = 0.0
        record, pod = self.record, self.sandbox.pod["metadata"]
        record.last_state = record.state
        if self._backoff:
            where = f"{self.name} in pod {pod['name']}_{pod['namespace']}({pod['uid']})"
            self._event("Warning", "BackOff", f"Back-off restarting failed container {where}")
            record.state = waiting("CrashLoopBackOff", f"back-off {self._backoff:.0f}s restarting failed {where}")
            self.sandbox.note()
            self._changed()
            await asyncio.sleep(self._backoff)
        self._backoff = min(max(FIRST_BACKOFF, self._backoff * 2), LAST_BACKOFF)
        record.restart_count += 1

    def _cannot_start(self, reason: str, message: str) -> None:
        """Show why the container waits. The first failure to pull is ErrImagePull, later ones ImagePullBackOff."""
        before = (self.record.state.get("waiting") or {}).get("reason")
        if reason == "ErrImagePull":
            if before in ("ErrImagePull", "ImagePullBackOff"):
                reason = "ImagePullBackOff"
                self._event("Normal", "BackOff", f'Back-off pulling image "{self.spec["image"]}"')
            else:
                self._event("Warning", "Failed", message[:1].upper() + message[1:])
        elif before != reason:
            self._event("Warning", "InspectFailed" if reason == "InvalidImageName" else "Failed", f"Error: {message}")
        if self.record.state.get("waiting", {}).get("reason") != reason:
            self.record.state = waiting(reason, message)
            self.sandbox.note()
            self._changed()

    def _event(self, kind: str, reason: str, message: str) -> None:
        section = "initContainers" if self.init else "ephemeralContainers" if self.ephemeral else "containers"
        self.sandbox.node.events.emit(self.sandbox.pod, kind, reason, message, container=self.name, section=section)

    # Health

    async def _stop_health(self) -> None:
        tasks, self._health = self._health, []
        await end_tasks(*tasks)

    def _target(self) -> probes.Target:
        ports = {p["name"]: p["containerPort"] for p in self.spec.get("ports") or [] if p.get("name")}
        return probes.Target(self.sandbox.pod_ip, ports, self._probe_exec)

    async def _probe_exec(self, command: list[str], timeout: float) -> probes.Result:
        ended, output = await run_and_capture(self.sandbox, self.spec, command, timeout)
        return probes.Result(ended.code == 0, output)

    @property
    def has_post_start(self) -> bool:
        return bool(((self.spec.get("lifecycle") or {}).get("postStart") or {}).get("exec"))

    async def _watch_health(self, process: Process) -> None:
        record, was_ready = self.record, self.record.ready
        if self.has_post_start and not record.started:
            await self._post_start(self.spec["lifecycle"]["postStart"]["exec"].get("command") or ["true"], process)
        self.post_started.set()
        if not record.started and (startup := self.spec.get("startupProbe")):
            await self._judge("Startup", startup, process, once=True)
        record.started = True
        self._is_started.set()
        readiness, liveness = self.spec.get("readinessProbe"), self.spec.get("livenessProbe")
        record.ready = was_ready if readiness else True
        self.sandbox.note()
        self._changed()
        judges = [("Readiness", readiness), ("Liveness", liveness)]
        await asyncio.gather(*(self._judge(kind, probe, process) for kind, probe in judges if probe))

    async def _judge(self, kind: str, probe: Object, process: Process, *, once: bool = False) -> None:
        """Follow one probe and act on its verdicts; `once` ends with the first success."""
        async for verdict in probes.follow(probe, self._target()):
            if verdict.failed:
                self._event("Warning", "Unhealthy", f"{kind} probe failed: {verdict.message}")
            if verdict.healthy is None:
                continue
            if kind == "Readiness":
                self._set_ready(verdict.healthy)
            elif not verdict.healthy:
                await self._restart_unhealthy(kind, process)
                return
            if once and verdict.healthy:
                return

    def _set_ready(self, ready: bool) -> None:
        if self.record.ready != ready:
            self.record.ready = ready
            self.sandbox.note()
            self._changed()

    async def _restart_unhealthy(self, kind: str, process: Process) -> None:
        verb = "will be restarted" if self.policy != "Never" else "will be killed"
        self._event("Normal", "Killing", f"Container {self.name} failed {kind.lower()} probe, {verb}")
        process.signal(signal.SIGTERM)
        await asyncio.sleep(self._grace())  # cancelled when the process ends, with the other probes
        process.kill()

    def _grace(self) -> float:
        seconds = self.sandbox.pod["spec"].get("terminationGracePeriodSeconds")
        return 30.0 if seconds is None else float(seconds)

    async def _post_start(self, command: list[str], process: Process) -> None:
        try:
            ended, output = await run_and_capture(self.sandbox, self.spec, list(command), 60)
            failure = "" if ended.code == 0 else output or f"exit code {ended.code}"
        except (LabError, aiohttp.ClientError, OSError) as error:  # its ConfigMap was deleted, say
            failure = first_line(error)
        if failure:
            self._event("Warning", "FailedPostStartHook", f"PostStartHook failed: {failure}")
            process.kill()

    # The end

    async def terminate(self, grace: float) -> None:
        """End the process, politely for `grace` seconds. The caller has cancelled `run` before."""
        self.stopping = True
        await self._stop_health()
        process = self.process
        if process is None and self.record.running and (identity := self.record.identity):
            process = Process.adopt(identity)  # `run` was cancelled before it began
        if process is None:
            return
        self._event("Normal", "Killing", f"Stopping container {self.name}")
        deadline = time.monotonic() + grace
        try:
            await self._pre_stop(grace)
        except (LabError, aiohttp.ClientError, OSError) as error:
            self._event("Warning", "FailedPreStopHook", f"PreStopHook failed: {first_line(error)}")
        self._ended(await process.terminate(max(0.0, deadline - time.monotonic())))

    async def _pre_stop(self, grace: float) -> None:
        hook = (self.spec.get("lifecycle") or {}).get("preStop") or {}
        if command := (hook.get("exec") or {}).get("command"):
            await run_and_capture(self.sandbox, self.spec, list(command), grace)
        elif seconds := (hook.get("sleep") or {}).get("seconds"):
            await asyncio.sleep(min(float(seconds), grace))

    async def release(self) -> None:
        """Stop watching; the process runs on for the next supervisor."""
        self.stopping = True
        await self._stop_health()
        if self.process:
            self.process.release()
        self._close_console()
