"""Measure what the workshop promises to be quick at: `make bench`. Not a test: it judges nothing and fails nothing.

Prints a table of medians beside what is to be reached, and writes build/bench.json.
With `--whole`, also times `make run`, `make test` and a fresh clone with its installation.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import click
from tabulate import tabulate

import labkit
from labkit.embedded import addresses, lifecycle
from labkit.embedded.controlplane import agent
from labkit.lab import Lab
from tests.contract.world import Api, configmap, pod

ROOT = Path(__file__).parents[1]
NAMESPACE = "azureopenai"
CHAT = b'{"message": "bench"}'


@dataclass
class Measure:
    """One line of the table. Seconds unless the name says otherwise."""

    name: str
    value: str
    to_reach: str
    runs: int


@contextmanager
def cluster(name: str) -> Iterator[Path]:
    """An embedded cluster that is empty at the start and gone at the end."""
    lifecycle.down(name, purge=True)
    try:
        yield lifecycle.up(name)
    finally:
        lifecycle.down(name, purge=True)


def timed(act: Callable[[], object]) -> float:
    """Seconds that `act` took."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def start_up(runs: int) -> list[float]:
    """`labkit up` to the API's readiness, in this process: starting Python for the command itself is not in it."""
    seconds = []
    for _ in range(runs):
        lifecycle.down("bench", purge=True)
        seconds.append(timed(lambda: lifecycle.up("bench")))
    lifecycle.down("bench", purge=True)
    return seconds


def install_chat(lab: Lab) -> None:
    """The chat application, all four pods 2/2, and the first request over mTLS answered."""
    lab.create_namespace(NAMESPACE, labels={"istio.io/rev": "default"})
    lab.apply("manifests/apps/chat")
    lab.wait_until_ready(NAMESPACE)
    answer = lab.probe(f"{NAMESPACE}/chatfrontend", "http://chatbackend-service:5000/chat", data=CHAT.decode())
    assert answer.http_status == 200, answer


def pod_addresses(lab: Lab, app: str) -> list[str]:
    """The pod addresses of one application."""
    pods = lab.cluster.objects("Pod", NAMESPACE, labels={"app": app})
    return [pod["status"]["podIP"] for pod in pods]


def post(address: str, port: int, timeout: float = 5.0) -> int:
    """One POST /chat on a connection of its own; the status."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("POST", "/chat", CHAT, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def _loop(address: str, port: int, stopped: Event, answers: Queue[tuple[int, list[str]]]) -> None:
    """Send requests one after the other until stopped; report how many, and what went wrong."""
    sent, failures = 0, []
    while not stopped.is_set():
        try:
            status = post(address, port)
            problem = "" if status == 200 else f"HTTP {status}"
        except OSError as error:
            problem = repr(error)
        sent += 1
        failures += [problem] if problem else []
    answers.put((sent, failures))


class Loops:
    """Clients that send requests through a sidecar until stopped, each a process: as separate as pods are."""

    def __init__(self, address: str, port: int, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._stopped, self._answers = context.Event(), context.Queue()
        arguments = (address, port, self._stopped, self._answers)
        self._processes = [context.Process(target=_loop, args=arguments) for _ in range(count)]
        self.sent = 0
        self.failures: list[str] = []

    def __enter__(self) -> Loops:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for _ in self._processes:
            sent, failures = self._answers.get(timeout=30)
            self.sent += sent
            self.failures += failures
        for process in self._processes:
            process.join()


def flips(lab: Lab, count: int) -> tuple[list[float], list[float], Loops]:
    """The switch, first on a quiet mesh, then under four loops of mTLS requests."""
    backend = pod_addresses(lab, "chatbackend")[0]
    service = lab.cluster.get("Service", "chatbackend-service", NAMESPACE)["spec"]["clusterIP"]
    frontend = pod_addresses(lab, "chatfrontend")[0]
    captured = addresses.captured_ip(frontend, service)
    quiet = [flip(lab, backend) for _ in range(count)]
    with Loops(captured, 5000, 4) as loops:
        busy = [flip(lab, backend) for _ in range(count)]
    return quiet, busy, loops


def flip(lab: Lab, backend: str) -> float:
    """Seconds from STRICT's being applied to the first refused plaintext connection."""
    set_mode(lab, "PERMISSIVE")
    wait_for(lambda: accepted(backend))
    started = time.perf_counter()
    set_mode(lab, "STRICT")
    wait_for(lambda: not accepted(backend))
    return time.perf_counter() - started


def set_mode(lab: Lab, mode: str) -> None:
    """The namespace-wide policy, by one request."""
    lab.cluster.transport.request(
        "PATCH",
        f"/apis/security.istio.io/v1/namespaces/{NAMESPACE}/peerauthentications/default",
        action="Switching the mode",
        body={"spec": {"mtls": {"mode": mode}}},
        content_type="application/merge-patch+json",
    )


def accepted(address: str) -> bool:
    """Whether a plaintext request is answered."""
    try:
        return post(address, 5000) == 200
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Poll without a pause: what is measured is milliseconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("a switch of the mode was not seen within 10 s")


def p(values: list[float], quantile: float) -> float:
    """A quantile of the values, by rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


def milliseconds(values: list[float]) -> str:
    """p50, p99 and the worst, in ms."""
    return f"p50 {p(values, 0.5) * 1000:.1f} ms, p99 {p(values, 0.99) * 1000:.1f} ms, worst {max(values) * 1000:.1f} ms"


def measure_cluster(runs: int, flip_count: int) -> list[Measure]:
    """Everything about one embedded cluster."""
    up = start_up(runs)
    install, chat, memory = [], [], []
    for number in range(runs):
        with cluster("bench"):
            lab = labkit.open("embedded:bench", narrate=lambda _: None)
            install.append(timed(lab.install_mesh))
            chat.append(timed(lambda lab=lab: install_chat(lab)))
            memory.append(lifecycle.status("bench").memory_bytes / 2**20)
            if number == runs - 1:
                lab.set_mtls_mode("PERMISSIVE", NAMESPACE)
                quiet, busy, loops = flips(lab, flip_count)
    failures = f"{len(loops.failures)} of {loops.sent}"
    if loops.failures:
        failures += f" ({', '.join(sorted(set(loops.failures))[:3])})"
    reach = "p50 15 ms, p99 60 ms"
    return [
        Measure("labkit up to API ready", f"{statistics.median(up):.2f} s", "1.5 s", runs),
        Measure("mesh installed to istiod Ready", f"{statistics.median(install):.2f} s", "1.5 s", runs),
        Measure("chat applied to 4 pods 2/2 and first mTLS 200", f"{statistics.median(chat):.2f} s", "3 s", runs),
        Measure("STRICT applied to first refused plaintext, quiet", milliseconds(quiet), reach, flip_count),
        Measure("the same under 4 loops of mTLS requests", milliseconds(busy), reach, flip_count),
        Measure("mTLS requests failed during those flips", failures, "0", loops.sent),
        Measure("memory of the cluster with chat (PSS)", f"{statistics.median(memory):.0f} MB", "300 MB", runs),
    ]


def measure_api(requests: int) -> list[Measure]:
    """The API server alone: creates, lists and watches, on one connection as most clients have it."""
    with cluster("bench-api") as kubeconfig:
        api = Api(kubeconfig)
        path = "/api/v1/namespaces/default/pods"
        creates = []
        for number in range(requests):
            body = pod(f"bench-{number}")
            body["spec"]["schedulerName"] = "nobody"  # what is measured is the API, not a thousand processes
            body["spec"]["nodeSelector"] = {"nobody": "has-this"}
            creates.append(timed(lambda body=body: api.post(path, body).expect(201)))
        lists = [timed(lambda: api.get(path).expect(200)) for _ in range(50)]
        events = watch_events(api, 200)
        rows = [
            Measure(f"create, one of {requests} pods", milliseconds(creates), "2 ms each", requests),
            Measure(f"list of {requests} pods", milliseconds(lists), "p50 50 ms", len(lists)),
            Measure("watch event delivered, from sending the write", milliseconds(events), "p50 5 ms", len(events)),
        ]
        for number in range(requests - 10):  # kubectl is measured with what a lesson has, not with a thousand rows
            api.delete(f"{path}/bench-{number}").expect(200)
        return [*rows, measure_kubectl(kubeconfig)]


def watch_events(api: Api, count: int) -> list[float]:
    """Seconds from sending a write to reading its event on a watch."""
    path, name = "/api/v1/namespaces/default/configmaps", "bench-watched"
    version = api.post(path, configmap(name)).expect(201)["metadata"]["resourceVersion"]
    events = api.watch(path, seconds=120, resourceVersion=version, fieldSelector=f"metadata.name={name}")
    seconds: list[float] = []
    told: SimpleQueue[float] = SimpleQueue()

    def follow() -> None:
        for _ in range(count):
            next(events)
            told.put(time.perf_counter())

    follower = Thread(target=follow, daemon=True)
    follower.start()
    for number in range(count):
        sent = time.perf_counter()
        api.patch(f"{path}/{name}", {"data": {"number": str(number)}}).expect(200)
        seconds.append(told.get(timeout=10) - sent)
    follower.join()
    return seconds


def measure_kubectl(kubeconfig: Path, runs: int = 15) -> Measure:
    """What the cluster adds to the time that kubectl takes anyway."""
    name, reach = "kubectl get pods, more than kubectl version --client", "100 ms"
    if shutil.which("kubectl") is None:
        return Measure(name, "skipped: there is no kubectl on the PATH", reach, 0)
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    def wall(*arguments: str) -> float:
        command = ["kubectl", *arguments]
        return timed(lambda: subprocess.run(command, env=environment, check=True, capture_output=True))

    wall("get", "pods")  # fills kubectl's own cache of the discovery documents
    idle = statistics.median(wall("version", "--client") for _ in range(runs))
    asked = statistics.median(wall("get", "pods") for _ in range(runs))
    return Measure(name, f"{(asked - idle) * 1000:.0f} ms ({asked * 1000:.0f} - {idle * 1000:.0f})", reach, runs)


def measure_agent(runs: int = 15) -> Measure:
    """Python starts twice per injected pod for `pilot-agent`, so it is part of how long a learner waits."""
    command = [sys.executable, "-S", "-E", str(agent.__file__), "version"]
    seconds = [timed(lambda: subprocess.run(command, check=True, capture_output=True, cwd="/")) for _ in range(runs)]
    return Measure("pilot-agent version", milliseconds(seconds), "100 ms", runs)


def measure_whole() -> list[Measure]:
    """The commands that a newcomer types."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "VIRTUAL_ENV"))}
    run = timed(lambda: subprocess.run(["make", "run"], cwd=ROOT, env=environment, check=True, **quiet))
    test = timed(lambda: subprocess.run(["make", "test"], cwd=ROOT, env=environment, check=True, **quiet))
    with tempfile.TemporaryDirectory() as directory:

        def fresh() -> None:
            subprocess.run(["git", "clone", "-q", str(ROOT), f"{directory}/clone"], check=True, **quiet)
            subprocess.run(["make", "run"], cwd=f"{directory}/clone", env=environment, check=True, **quiet)

        clone = timed(fresh)
    return [
        Measure("fresh clone to the last lesson executed", f"{clone:.0f} s", "120 s", 1),
        Measure("make run, environment installed", f"{run:.0f} s", "45 s", 1),
        Measure("make test", f"{test:.0f} s", "240 s", 1),
    ]


@click.command()
@click.option("--runs", default=5, show_default=True, help="Runs of each measure that starts a cluster.")
@click.option("--flips", "flip_count", default=100, show_default=True, help="Switches from PERMISSIVE to STRICT.")
@click.option("--requests", default=1000, show_default=True, help="Pods that are created in the API and listed.")
@click.option("--api", "api_only", is_flag=True, help="Only the API server (seconds).")
@click.option("--mesh", "mesh_only", is_flag=True, help="Only the control plane (minutes; LABKIT_BENCH_SECONDS).")
@click.option("--whole", is_flag=True, help="Also time make run, make test and a fresh clone (minutes).")
def main(runs: int, flip_count: int, requests: int, api_only: bool, mesh_only: bool, whole: bool) -> None:
    """Measure and print."""
    from tests.bench_declared import measure as measure_declared
    from tests.bench_map import measure_map
    from tests.bench_mesh import measure_mesh
    from tests.bench_observed import measure_observed
    from tests.bench_wire import measure as measure_wire

    measures = [] if mesh_only else measure_api(requests)
    if not api_only and not mesh_only:
        measures = [*measure_cluster(runs, flip_count), measure_agent(), *measures] + (measure_whole() if whole else [])
        measures += [Measure(*row) for row in (*measure_declared(), *measure_wire())]
        measures += measure_observed()
        measures += measure_map()
    if not api_only:
        measures += measure_mesh()
    rows = [[m.name, m.value, m.to_reach, m.runs] for m in measures]
    print(tabulate(rows, headers=["measure", "median", "to reach", "runs"]))
    output = ROOT / "build" / "bench.json"
    output.parent.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
    output.write_text(json.dumps({"machine": machine, "measures": [asdict(m) for m in measures]}, indent=2))
    print(f"\nAlso in {output.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
