"""What kubectl and the Python client do over streams: port-forward, exec, attach, cp, logs, run.

kubectl is the one on the PATH. More of them, older and newer, are tried with
KUBECTLS=/path/one:/path/two pytest tests/contract/test_streams.py
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import os
import pty
import re
import socket
import struct
import subprocess
import termios
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiException, CoreV1Api
from kubernetes.stream import portforward

from tests.contract.terminal import kubectls
from tests.contract.world import IMAGE, Api, pod, wait_until

PYTHON = "python:3.12-alpine"
BIG = 3_000_000  # many windows and buffers

# Port 80 serves files; 9000 counts the bytes of a caller until it sends no more, then answers.
SERVER = f"""
echo hello > index.html; head -c {BIG} /dev/zero > big
python3 -m http.server 80 &
exec python3 -c '
import socketserver
class Count(socketserver.StreamRequestHandler):
    def handle(self):
        count = 0
        while data := self.rfile.read1(65536):
            count += len(data)
        self.wfile.write(str(count).encode())
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("", 9000), Count).serve_forever()'
"""


@pytest.fixture(scope="module", params=kubectls() or [None], ids=lambda path: Path(path).name if path else "none")
def kubectl(request: pytest.FixtureRequest, kubeconfig: Path) -> Kubectl:
    if request.param is None:
        pytest.skip("NO KUBECTL ON THE PATH: streams were not tried with it. Install kubectl or set KUBECTLS")
    return Kubectl(request.param, kubeconfig)


class Kubectl:
    """One kubectl, on the cluster under test."""

    def __init__(self, program: str, kubeconfig: Path) -> None:
        self.program = program
        self.env = os.environ | {"KUBECONFIG": str(kubeconfig)}

    def run(self, *args: str, stdin: bytes = b"", seconds: float = 40) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([self.program, *args], env=self.env, input=stdin, capture_output=True, timeout=seconds)

    @contextlib.contextmanager
    def started(self, *args: str) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            [self.program, *args],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            with process:
                try:
                    yield process
                finally:
                    process.kill()
        finally:
            process.wait()

    @contextlib.contextmanager
    def forward(self, namespace: str, target: str, *ports: str) -> Iterator[Forward]:
        with self.started("port-forward", "-n", namespace, target, *ports) as process:
            assert process.stdout and process.stderr
            local: list[int] = []
            for line in process.stdout:
                if match := re.match(rb"Forwarding from 127\.0\.0\.1:(\d+)", line):
                    local.append(int(match[1]))
                if len(local) == len(ports):
                    break
            assert len(local) == len(ports), process.stderr.read()
            yield Forward(process, local)


class Forward:
    """A running port-forward."""

    def __init__(self, process: subprocess.Popen[bytes], ports: list[int]) -> None:
        self.process = process
        self.ports = ports
        self._errors: list[bytes] = []
        threading.Thread(target=self._drain, args=(process.stdout, []), daemon=True).start()
        threading.Thread(target=self._drain, args=(process.stderr, self._errors), daemon=True).start()

    @staticmethod
    def _drain(stream: Any, into: list[bytes]) -> None:
        with contextlib.suppress(ValueError):
            for line in stream:
                into.append(line)

    @property
    def errors(self) -> str:
        return b"".join(self._errors).decode()

    def get(self, path: str = "/", port: int = 0) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=20) as answer:
            return bytes(answer.read())


def _ready(api: Api, path: str) -> bool:
    conditions = api.get(path).json["status"].get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@pytest.fixture(scope="module")
def space(api: Api) -> Iterator[str]:
    """A namespace with the Deployment and Service `web` and the pod `box`."""
    name = f"streams-{os.getpid()}"
    api.post("/api/v1/namespaces", {"metadata": {"name": name}}).expect(201)
    container = {
        "name": "main",
        "image": PYTHON,
        "command": ["sh", "-c", SERVER],
        "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 9000}],
        "readinessProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 1},
    }
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    apps = f"/apis/apps/v1/namespaces/{name}/deployments"
    core = f"/api/v1/namespaces/{name}"
    api.post(apps, {"metadata": {"name": "web"}, "spec": spec}).expect(201)
    ports = [{"name": "http", "port": 8088, "targetPort": "http"}]
    api.post(f"{core}/services", {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}})
    api.post(f"{core}/pods", pod("box", "sh", "-c", "echo hello; echo world; sleep 600")).expect(201)
    wait_until(lambda: api.get(f"{apps}/web").json.get("status", {}).get("readyReplicas") == 1, 120)
    wait_until(lambda: _ready(api, f"{core}/pods/box"), 120)
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def web(api: Api, space: str) -> str:
    """The name of the Deployment's pod."""
    found = api.get(f"/api/v1/namespaces/{space}/pods", labelSelector="app=web").json["items"]
    return str(found[0]["metadata"]["name"])


def make(api: Api, space: str, body: Any) -> str:
    """Create a pod of one test's own."""
    api.post(f"/api/v1/namespaces/{space}/pods", body).expect(201)
    return f"/api/v1/namespaces/{space}/pods/{body['metadata']['name']}"


# port-forward with kubectl.


@pytest.mark.parametrize("target", ["deployment/web", "service/web", "pod"])
def test_port_forward_reaches_what_is_named(kubectl: Kubectl, space: str, web: str, target: str) -> None:
    port = ":8088" if target == "service/web" else ":80"
    with kubectl.forward(space, f"pod/{web}" if target == "pod" else target, port) as forward:
        assert forward.get() == b"hello\n"


def test_port_forward_carries_many_connections_at_once_and_whole(kubectl: Kubectl, space: str) -> None:
    with kubectl.forward(space, "deployment/web", ":80") as forward:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            sizes = list(pool.map(lambda _: len(forward.get("/big")), range(8)))
        assert sizes == [BIG] * 8
        assert forward.get() == b"hello\n"


def test_port_forward_of_two_ports_and_the_end_of_what_is_sent(kubectl: Kubectl, space: str) -> None:
    with kubectl.forward(space, "deployment/web", ":80", ":9000") as forward:
        with socket.create_connection(("127.0.0.1", forward.ports[1]), timeout=20) as connection:
            connection.sendall(b"x" * BIG)
            connection.shutdown(socket.SHUT_WR)
            assert connection.makefile("rb").read() == str(BIG).encode()
        assert forward.get() == b"hello\n"


def test_port_forward_to_a_port_where_nobody_listens_says_so(kubectl: Kubectl, space: str) -> None:
    with kubectl.forward(space, "deployment/web", ":81") as forward:
        with pytest.raises(OSError):
            forward.get()
        wait_until(lambda: "connection refused" in forward.errors.lower(), 10)
        assert re.search(r"an error occurred forwarding \d+ -> 81", forward.errors)


def test_port_forward_to_a_pod_that_does_not_exist_is_refused(kubectl: Kubectl, space: str) -> None:
    refused = kubectl.run("port-forward", "-n", space, "pod/nobody", ":80")
    assert refused.returncode == 1
    assert b'pods "nobody" not found' in refused.stderr


# port-forward with the Python client.


@contextlib.contextmanager
def _ports(api: Api, space: str, name: str, *ports: int) -> Iterator[Any]:
    core = CoreV1Api(api.client)
    words = ",".join(map(str, ports))
    opened = portforward(core.connect_get_namespaced_pod_portforward, name, space, ports=words)
    try:
        yield opened
    finally:
        opened.close()
        wait_until(lambda: not opened.connected, 10)


def test_the_python_client_forwards_two_ports(api: Api, space: str, web: str) -> None:
    with _ports(api, space, web, 80, 9000) as forward:
        files, count = forward.socket(80), forward.socket(9000)
        files.settimeout(20)
        count.sendall(b"x" * 100)
        files.sendall(b"GET /big HTTP/1.0\r\n\r\n")
        received = bytearray()
        while received.count(b"\0") < BIG and (data := files.recv(65536)):
            received += data
        assert received.startswith(b"HTTP/1.0 200 OK") and received.count(b"\0") == BIG
        assert forward.error(80) is None and forward.error(9000) is None


def test_the_python_client_is_told_that_nobody_listens(api: Api, space: str, web: str) -> None:
    with _ports(api, space, web, 81) as forward:
        connection = forward.socket(81)
        connection.settimeout(20)
        assert connection.recv(1) == b""
        wait_until(lambda: forward.error(81), 10)
        assert "81" in forward.error(81) and "connection refused" in forward.error(81).lower()


def test_the_python_client_is_told_that_the_pod_does_not_exist(api: Api, space: str) -> None:
    with pytest.raises(ApiException) as refused, _ports(api, space, "nobody", 80):
        pass
    assert "404" in str(refused.value)


# exec.


def test_exec_has_both_outputs_and_the_exit_code(kubectl: Kubectl, space: str) -> None:
    done = kubectl.run("exec", "-n", space, "box", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.returncode) == (b"out\n", 3)
    assert done.stderr == b"err\ncommand terminated with exit code 3\n"


def test_exec_that_succeeds_says_nothing_of_it(kubectl: Kubectl, space: str) -> None:
    done = kubectl.run("exec", "-n", space, "box", "--", "echo", "fine")
    assert (done.stdout, done.stderr, done.returncode) == (b"fine\n", b"", 0)


def test_exec_carries_large_input_to_its_end(kubectl: Kubectl, space: str) -> None:
    done = kubectl.run("exec", "-i", "-n", space, "box", "--", "wc", "-c", stdin=b"x" * BIG)
    assert (done.stdout.strip(), done.returncode) == (str(BIG).encode(), 0)


def test_exec_carries_large_output_whole(kubectl: Kubectl, space: str) -> None:
    done = kubectl.run("exec", "-n", space, "box", "--", "head", "-c", str(BIG), "/dev/zero")
    assert (len(done.stdout), done.returncode) == (BIG, 0), done.stderr


def test_exec_of_a_program_that_is_not_there_fails(kubectl: Kubectl, space: str) -> None:
    done = kubectl.run("exec", "-n", space, "box", "--", "no-such-program")
    assert done.returncode != 0
    assert b"executable file not found in $PATH" in done.stdout + done.stderr


def test_exec_in_a_pod_that_does_not_exist_is_refused(kubectl: Kubectl, space: str) -> None:
    done = kubectl.run("exec", "-n", space, "nobody", "--", "true")
    assert done.returncode == 1 and b'pods "nobody" not found' in done.stderr


def test_exec_in_a_container_that_does_not_run_names_the_cause(kubectl: Kubectl, api: Api, space: str) -> None:
    body = pod(f"half-{os.urandom(3).hex()}")
    failing = {"name": "fails", "image": IMAGE, "command": ["sh", "-c", "exit 7"]}
    body["spec"]["containers"].append(failing)
    body["spec"]["restartPolicy"] = "Never"
    path = make(api, space, body)

    def over() -> bool:
        states = {c["name"]: c["state"] for c in api.get(path).json["status"].get("containerStatuses") or []}
        return "terminated" in states.get("fails", {})

    wait_until(over, 60)
    done = kubectl.run("exec", "-n", space, body["metadata"]["name"], "-c", "fails", "--", "true")
    assert done.returncode == 1
    assert b"Upgrade request required" not in done.stderr
    assert b"fails" in done.stderr


def _at_terminal(kubectl: Kubectl, *args: str, typed: bytes = b"") -> tuple[bytes, int]:
    """kubectl with a terminal of 45 rows and 123 columns; what it showed, and its exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 45, 123, 0, 0))
    process = subprocess.Popen(
        [kubectl.program, *args], env=kubectl.env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    os.write(ours, typed)
    seen = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while data := os.read(ours, 65536):
            seen += data
    os.close(ours)
    return seen, process.wait(30)


def test_exec_at_a_terminal_knows_its_size_and_returns_the_code(kubectl: Kubectl, space: str) -> None:
    script = "stty size; test -t 0 && echo terminal; exit 4"
    seen, code = _at_terminal(kubectl, "exec", "-it", "-n", space, "box", "--", "sh", "-c", script)
    assert b"45 123\r\n" in seen and b"terminal\r\n" in seen
    assert code == 4


def test_exec_at_a_terminal_takes_what_is_typed(kubectl: Kubectl, space: str) -> None:
    seen, code = _at_terminal(kubectl, "exec", "-it", "-n", space, "box", "--", "sh", typed=b"echo $((40+2)); exit 5\n")
    assert b"42\r\n" in seen and code == 5


# attach and run.


def _reader(name: str) -> Any:
    body = pod(name, "sh", "-c", "read word; echo got $word; sleep 0.2; exit 5")
    body["spec"]["containers"][0] |= {"stdin": True, "stdinOnce": True}
    body["spec"]["restartPolicy"] = "Never"
    return body


def test_attach_hands_input_on_and_shows_output(kubectl: Kubectl, api: Api, space: str) -> None:
    name = f"reader-{os.urandom(3).hex()}"
    path = make(api, space, _reader(name))
    wait_until(lambda: _ready(api, path), 60)
    done = kubectl.run("attach", "-i", "-n", space, name, stdin=b"word\n")
    assert b"got word\n" in done.stdout
    assert done.returncode == 0  # the exit code of a container is not attach's


def test_attach_to_a_pod_that_does_not_exist_is_refused(kubectl: Kubectl, space: str) -> None:
    done = kubectl.run("attach", "-n", space, "nobody")
    assert done.returncode == 1 and b'pods "nobody" not found' in done.stderr


@pytest.mark.parametrize("code", [0, 3])
def test_run_returns_the_programs_exit_code_and_removes_the_pod(
    kubectl: Kubectl, api: Api, space: str, code: int
) -> None:
    name = f"run-{os.urandom(3).hex()}"
    options = ["-n", space, "-i", "--rm", "--restart=Never", f"--image={IMAGE}", "--grace-period=1"]
    script = f"read word; echo got $word; sleep 0.2; exit {code}".encode()
    done = kubectl.run("run", name, *options, "--command", "--", "sh", "-c", script.decode(), stdin=b"word\n")
    assert b"got word\n" in done.stdout
    assert done.returncode == code, done.stderr
    assert b"command terminated" not in done.stderr
    wait_until(lambda: api.get(f"/api/v1/namespaces/{space}/pods/{name}").status == 404)


# logs, cp, proxy.


def test_logs_show_all_the_last_lines_and_those_since(kubectl: Kubectl, space: str) -> None:
    assert kubectl.run("logs", "-n", space, "box").stdout == b"hello\nworld\n"
    assert kubectl.run("logs", "-n", space, "box", "--tail=1").stdout == b"world\n"
    assert kubectl.run("logs", "-n", space, "box", "--since=1h", "-c", "main").stdout == b"hello\nworld\n"
    time.sleep(1.1)
    assert kubectl.run("logs", "-n", space, "box", "--since=1s").stdout == b""


def test_logs_of_a_container_or_a_run_that_is_not_there_are_refused(kubectl: Kubectl, space: str) -> None:
    refused = kubectl.run("logs", "-n", space, "box", "-c", "other")
    assert refused.returncode == 1 and b"container other is not valid for pod box" in refused.stderr
    refused = kubectl.run("logs", "-n", space, "box", "--previous")
    assert refused.returncode == 1 and b'previous terminated container "main" in pod "box" not found' in refused.stderr


def test_logs_are_followed_to_the_end_of_the_container(kubectl: Kubectl, api: Api, space: str) -> None:
    body = pod(f"counts-{os.urandom(3).hex()}", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done")
    body["spec"]["restartPolicy"] = "Never"
    path = make(api, space, body)
    wait_until(lambda: api.get(path).json["status"].get("phase") in ("Running", "Succeeded"), 60)
    assert kubectl.run("logs", "-f", "-n", space, body["metadata"]["name"]).stdout == b"1\n2\n3\n"


def test_logs_of_all_containers_and_of_the_run_before(kubectl: Kubectl, api: Api, space: str) -> None:
    body = pod(f"two-{os.urandom(3).hex()}", "sh", "-c", "echo boom; sleep 0.2; exit 1")
    body["spec"]["containers"].append({"name": "side", "image": IMAGE, "command": ["sh", "-c", "echo side; sleep 600"]})
    path, name = make(api, space, body), body["metadata"]["name"]

    def restarted() -> bool:
        return any(c["restartCount"] for c in api.get(path).json["status"].get("containerStatuses") or [])

    wait_until(restarted, 60)
    shown = kubectl.run("logs", "-n", space, name, "--all-containers").stdout
    assert b"boom\n" in shown and b"side\n" in shown
    assert kubectl.run("logs", "-n", space, name, "-c", "main", "--previous").stdout == b"boom\n"


@pytest.mark.parametrize(
    "query, reason",
    [
        ("tailLines=-1", "Invalid"),
        ("limitBytes=0", "Invalid"),
        ("sinceSeconds=0", "Invalid"),
        ("sinceSeconds=5&sinceTime=2024-01-01T00:00:00Z", "Invalid"),
        ("tailLines=many", "BadRequest"),
    ],
)
def test_log_options_that_mean_nothing_are_refused(api: Api, space: str, query: str, reason: str) -> None:
    refused = api.get(f"/api/v1/namespaces/{space}/pods/box/log?{query}")
    refused.expect(422 if reason == "Invalid" else 400, reason)


def test_cp_carries_a_file_in_and_out(kubectl: Kubectl, space: str, tmp_path: Path) -> None:
    content = os.urandom(200_000)
    (tmp_path / "there").write_bytes(content)
    done = kubectl.run("cp", "-n", space, str(tmp_path / "there"), "box:copied")
    assert done.returncode == 0, done.stderr
    done = kubectl.run("cp", "-n", space, "box:copied", str(tmp_path / "back"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back").read_bytes() == content


def test_cp_to_a_pod_that_does_not_exist_fails(kubectl: Kubectl, space: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert kubectl.run("cp", "-n", space, str(tmp_path / "file"), "nobody:file").returncode == 1


def test_proxy_paths_reach_a_pod_and_a_service(kubectl: Kubectl, space: str, web: str) -> None:
    root = f"/api/v1/namespaces/{space}"
    for path in (f"pods/{web}:80", f"pods/{web}", "services/web:8088", "services/web:http"):
        assert kubectl.run("get", "--raw", f"{root}/{path}/proxy/").stdout == b"hello\n", path


def test_proxy_paths_to_nothing_are_refused(kubectl: Kubectl, space: str, web: str) -> None:
    root = f"/api/v1/namespaces/{space}"
    refused = kubectl.run("get", "--raw", f"{root}/pods/{web}:81/proxy/")
    assert refused.returncode == 1 and b"refused" in refused.stderr
    assert kubectl.run("get", "--raw", f"{root}/services/nobody/proxy/").returncode == 1


# debug: a container more in a pod that runs.


def debugger_state(api: Api, path: str, name: str) -> Any:
    statuses = api.get(path).json["status"].get("ephemeralContainerStatuses") or []
    return next((one["state"] for one in statuses if one["name"] == name), {})


def test_debug_enters_a_running_pod_with_input_and_exit(kubectl: Kubectl, api: Api, space: str) -> None:
    path = make(api, space, pod("debugged", "sleep", "600"))
    wait_until(lambda: api.get(path).json["status"]["phase"] == "Running")
    line = ("debug", "-n", space, "debugged", f"--image={IMAGE}", "-c", "look", "-i", "--", "sh", "-c")
    done = kubectl.run(*line, "read word; echo $word of $HOSTNAME", stdin=b"hello\n")
    assert b"hello of debugged" in done.stdout, done.stderr
    wait_until(lambda: debugger_state(api, path, "look").get("terminated", {}).get("exitCode") == 0)
    assert api.get(path).json["status"]["phase"] == "Running"


def test_debug_of_nobody_and_with_an_image_of_nobody(kubectl: Kubectl, api: Api, space: str) -> None:
    missing = kubectl.run("debug", "-n", space, "nobody", f"--image={IMAGE}")
    assert missing.returncode == 1 and b'pods "nobody" not found' in missing.stderr
    path = make(api, space, pod("undebugged", "sleep", "600"))
    wait_until(lambda: api.get(path).json["status"]["phase"] == "Running")
    asked = kubectl.run("debug", "-n", space, "undebugged", "--image=nobody.invalid/no/such:1", "-c", "look")
    assert asked.returncode == 0, asked.stderr  # kubectl has asked for it, and the kubelet does not find it
    wait_until(lambda: "Pull" in debugger_state(api, path, "look").get("waiting", {}).get("reason", ""))
    assert api.get(path).json["status"]["phase"] == "Running"
