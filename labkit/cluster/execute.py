"""Running a program in a container (`pods/exec`): what it printed, and its exit code.

A program that fails is a result. Only a container that cannot be reached is an error.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labkit.cluster import problems
from labkit.cluster.transport import Transport
from labkit.errors import ClusterError, InternalError, WaitTimeoutError

PROGRAM_NOT_FOUND = 127  # as a shell says it

STDOUT, STDERR, ERROR = 1, 2, 3  # channels of v4.channel.k8s.io


@dataclass(frozen=True)
class ExecResult:
    """What a program in a container printed, and how it ended."""

    command: tuple[str, ...]
    stdout: str
    stderr: str
    exit_code: int
    seconds: float

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


def connect(
    transport: Transport, path: str, command: Sequence[str], container: str | None, *, stdin: bool = False
) -> Any:
    """Start `command` at the exec path of a pod: the `kubernetes` package's client of its streams."""
    from kubernetes.client.exceptions import ApiException
    from kubernetes.stream import ws_client

    params = [("command", part) for part in command] + [("stdout", "true"), ("stderr", "true")]
    if stdin:
        params.append(("stdin", "true"))
    if container:
        params.append(("container", container))
    try:
        return ws_client.websocket_call(
            transport.configuration,
            "GET",
            transport.server + path,
            query_params=params,
            headers=transport.authorization(),
            _preload_content=False,
            capture_all=False,
            binary=True,  # text is decoded when it is complete: a frame may end within a character
        )
    except ApiException as error:
        raise _handshake_error(error, transport, path.split("/")[-2], command) from error


def run(transport: Transport, path: str, command: Sequence[str], container: str | None, limit: float) -> ExecResult:
    """Run `command` at the exec path of a pod and wait for its end, at most `limit` seconds."""
    from websocket import WebSocketException

    started = time.monotonic()
    pod = path.split("/")[-2]
    client = connect(transport, path, command, container)
    try:
        client.run_forever(timeout=limit)
        ended = not client.is_open()
    except (WebSocketException, OSError) as error:
        raise ClusterError(f"The connection to pod {pod} broke while {command[0]!r} ran: {error}") from error
    finally:
        client.sock.shutdown()  # close() would leave the socket open when the server has said goodbye first
    if not ended:
        raise WaitTimeoutError(
            f"{command[0]!r} in pod {pod} did not end within {limit:g} s.",
            next_step="Look at the pod: lab.pods(), lab.describe_pod().",
            pod=pod,
        )
    # The channels are complete now; read_channel only hands out what was collected.
    stdout, stderr = (bytes(client.read_channel(channel)).decode("utf-8", "replace") for channel in (STDOUT, STDERR))
    exit_code, words = ending(bytes(client.read_channel(ERROR)), command, pod)
    return ExecResult(tuple(command), stdout, stderr or words, exit_code, time.monotonic() - started)


def ending(status: bytes, command: Sequence[str], pod: str) -> tuple[int, str]:
    """(exit code, what the runtime says) from the last message of the stream."""
    try:
        answer: dict[str, Any] = json.loads(status or b"{}")
    except ValueError:
        answer = {}
    if answer.get("status") == "Success":
        return 0, ""
    for cause in (answer.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"]), ""
    message = answer.get("message") or "no exit code was sent"
    # Container runtimes differ: some give 126 or 127 as a shell does, some only these words.
    if re.search(r"executable file not found|no such file or directory", message):
        return PROGRAM_NOT_FOUND, message
    if "not found" in message:
        raise problems.from_status(404, {"message": message}, action=f"Running {command[0]!r} in pod {pod}")
    raise ClusterError(f"Running {command[0]!r} in pod {pod} failed: {message}", pod=pod)


def _handshake_error(error: Any, transport: Transport, pod: str, command: Sequence[str]) -> Exception:
    # The package hands on the websocket client's text: "Handshake status 404 Not Found -+-+- {...} -+-+- b'{...}'".
    text = str(error.reason)
    match = re.match(r"Handshake status (\d+)", text)
    if not match:
        return problems.unreachable(transport.server, transport.known_as, error.__context__ or error)
    body = re.search(r"-\+-\+- b[\'\"](.*)[\'\"]$", text, re.DOTALL)
    status = None
    if body:
        try:
            status = json.loads(body[1].encode().decode("unicode_escape"))
        except ValueError:
            status = {"message": body[1]}
    if int(match[1]) >= 500 and not status:
        return InternalError(f"Running {command[0]!r} in pod {pod} failed: {text[:200]}")
    return problems.from_status(int(match[1]), status, action=f"Running {command[0]!r} in pod {pod}")
