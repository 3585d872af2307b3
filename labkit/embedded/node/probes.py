"""Probes: is a container started, ready, alive? HTTP, TCP and exec, with the kubelet's thresholds.

One difference to the kubelet: until a probe succeeds for the first time it is tried every 25 ms at first and then
more and more slowly up to its period, and `initialDelaySeconds` only keeps early failures from counting. A lesson
must not wait 10 s for a server that was ready after 0.1 s.
https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.embedded.addresses import block_of, listen_port, node_ip
from labkit.embedded.node.environment import ContainerConfigError

FIRST_INTERVAL = 0.025
INTERVAL_GROWTH = 1.25


@dataclass(frozen=True)
class Result:
    """What one attempt said; `message` in the kubelet's words, for the Unhealthy event."""

    ok: bool
    message: str = ""


ExecInContainer = Callable[[list[str], float], Awaitable[Result]]


@dataclass(frozen=True)
class Target:
    """Where a container's probes go."""

    pod_ip: str
    ports: Mapping[str, int]  # the container's named ports
    run: ExecInContainer


@dataclass(frozen=True)
class Timing:
    """The numbers of a probe, with the defaults of the API."""

    initial_delay: float
    period: float
    timeout: float
    failures: int
    successes: int

    @classmethod
    def of(cls, probe: Mapping[str, Any]) -> Timing:
        """From a Probe object."""
        return cls(
            initial_delay=float(probe.get("initialDelaySeconds") or 0),
            period=max(1.0, float(probe.get("periodSeconds") or 10)),
            timeout=max(1.0, float(probe.get("timeoutSeconds") or 1)),
            failures=int(probe.get("failureThreshold") or 3),
            successes=int(probe.get("successThreshold") or 1),
        )


def port_number(port: int | str, names: Mapping[str, int]) -> int:
    """A port given by number or by the name of a container port."""
    if isinstance(port, str) and not port.isdigit():
        if port not in names:
            raise ContainerConfigError(f"probe names the port {port!r}, which the container does not have")
        return names[port]
    return int(port)


async def attempt(probe: Mapping[str, Any], target: Target) -> Result:
    """Try once."""
    timeout = Timing.of(probe).timeout
    try:
        # Not wait_for: it may lose the cancellation by which a container's end ends its probes; see `tasks`.
        if http := probe.get("httpGet"):
            async with asyncio.timeout(timeout):
                return await _http(http, target)
        if tcp := probe.get("tcpSocket") or probe.get("grpc"):
            # Real kubelets ask a gRPC server's health service; here an accepted connection counts.
            async with asyncio.timeout(timeout):
                return await _tcp(tcp, target)
        if command := (probe.get("exec") or {}).get("command"):
            return await target.run(list(command), timeout)
    except TimeoutError:
        return Result(False, f"timed out after {timeout:.0f} s")
    except Exception as error:  # whatever kept it from being tried: nobody would probe this container any more
        return Result(False, (str(error).splitlines() or [repr(error)])[0])
    return Result(True)


async def _dial(
    host: str, declared: int, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, and say of a failure what a kubelet says: with the port that the manifest names."""
    try:
        # Probes come from the node's address, as a kubelet's do. Elsewhere than in pods (`host` of a probe) from any.
        source = (node_ip(block_of(host)), 0) if host.startswith("127.") and host != "127.0.0.1" else None
        return await asyncio.open_connection(host, listen_port(declared), ssl=tls, local_addr=source)
    except ConnectionError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise ConnectionError(f"dial tcp {host}:{declared}: connect: {reason}") from error


async def _tcp(tcp: Mapping[str, Any], target: Target) -> Result:
    _, writer = await _dial(tcp.get("host") or target.pod_ip, port_number(tcp["port"], target.ports))
    writer.close()
    return Result(True)


async def _http(http: Mapping[str, Any], target: Target) -> Result:
    """One GET without a client library: a probe must cost little. 200 to 399 is a success."""
    declared = port_number(http["port"], target.ports)
    host, path = http.get("host") or target.pod_ip, http.get("path") or "/"
    tls = None
    if (http.get("scheme") or "HTTP").upper() == "HTTPS":
        tls = ssl.create_default_context()  # the kubelet does not verify the certificate either
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    headers = {"Host": f"{host}:{declared}", "User-Agent": "kube-probe/labkit", "Accept": "*/*"}
    headers.update({h["name"]: str(h.get("value", "")) for h in http.get("httpHeaders") or []})
    request = f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1\r\n"
    request += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "Connection: close\r\n\r\n"
    reader, writer = await _dial(host, declared, tls)
    try:
        writer.write(request.encode())
        line = (await reader.readline()).decode("latin-1")
    finally:
        writer.close()  # nobody waits for that: a TLS server that does not answer would hold the probe
    words = line.split(None, 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        raise ConnectionResetError("EOF" if not line else "the answer is not HTTP")
    status = int(words[1])
    if 200 <= status < 400:
        return Result(True)
    return Result(False, f"HTTP probe failed with statuscode: {status}")


@dataclass(frozen=True)
class Verdict:
    """What a series of attempts says now: `healthy` after enough successes or failures, else None (undecided)."""

    healthy: bool | None
    message: str
    failed: bool  # this very attempt failed, at the probe's own pace: worth an event


async def follow(
    probe: Mapping[str, Any], target: Target, *, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Verdict]:
    """Verdicts, one for each counted attempt, until the caller stops."""
    timing = Timing.of(probe)
    begun = last_counted = clock()
    interval, failures, successes = FIRST_INTERVAL, 0, 0
    settled = False  # it has been healthy: from now on, the probe's own pace
    while True:
        result = await attempt(probe, target)
        now = clock()
        if result.ok:
            failures, successes = 0, successes + 1
            settled = settled or successes >= timing.successes
            yield Verdict(True if successes >= timing.successes else None, "", False)
        elif now - begun >= timing.initial_delay and (settled or now - last_counted >= timing.period):
            last_counted = now
            failures, successes = failures + 1, 0
            yield Verdict(False if failures >= timing.failures else None, result.message, True)
        await asyncio.sleep(timing.period if settled else min(interval, timing.period))
        interval *= INTERVAL_GROWTH
