"""What crosses the wire of a whole cluster, before and after STRICT: seen by labkit, and by tshark if it is there."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from labkit.cli import main
from labkit.embedded.wire.steering import Sockets, read_sockets
from labkit.errors import ClusterError, InputError
from labkit.lab import Lab
from labkit.observe import capture
from labkit.observe.packets import SHOWN_BYTES, Kind, read_file, tcp_packets, tell_apart
from labkit.views.wire import REFUSED
from tests.contract.terminal import Terminal
from tests.embedded.envoy_world import wait_for
from tests.embedded.proxy_words_world import small_mesh
from tests.programs import program

pytestmark = pytest.mark.timeout(120)

NAME = "capture"
SERVER, CLIENT, OLD = "shop/server", "shop/client", "legacy/old"
URL = "http://server.shop:5000/healthz"
SNI = "outbound_.5000_._.server.shop.svc.cluster.local"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with small_mesh(NAME) as lab:
        yield lab


@pytest.fixture
def strict(lab: Lab) -> Iterator[Lab]:
    lab.set_mtls_mode("STRICT", "shop")
    yield lab
    lab.set_mtls_mode("UNSET", "shop")


def status(lab: Lab, client: str, url: str = URL) -> int | None:
    return lab.probe(client, url).http_status


def address_of(lab: Lab, app: str, namespace: str = "shop") -> tuple[str, int]:
    pods = lab.cluster.objects("pods", namespace, labels={"app": app})
    (running,) = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
    return running["status"]["podIP"], 5000


# Who reads the file: tshark, and the parser of labkit, which does without it.


def by_tshark(path: Path) -> tuple[int, int]:
    def count(what: str) -> int:
        # Port 5000 belongs to another protocol in its books.
        line = ["tshark", "-r", str(path), "-o", "tcp.try_heuristic_first:TRUE", "-Y", what]
        return len(subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines())

    return count("http.request"), count("tls.record")


def by_labkit(path: Path) -> tuple[int, int]:
    packets = tell_apart(tcp_packets(read_file(path.read_bytes())))
    return sum(one.kind is Kind.HTTP_REQUEST for one in packets), sum(one.kind.tls for one in packets)


Reader = Callable[[Path], tuple[int, int]]


@pytest.fixture(params=[by_tshark, by_labkit], ids=["tshark", "labkit"])
def found_in(request: pytest.FixtureRequest) -> Reader:
    """(HTTP requests, packets with TLS records) of a file."""
    if request.param is by_tshark:
        program("tshark", "captures were read with labkit alone")
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("form", ["pcapng", "pcap"])
def test_before_strict_the_request_can_be_read(lab: Lab, tmp_path: Path, found_in: Reader, form: str) -> None:
    with lab.capture(SERVER) as wire:
        assert status(lab, OLD) == 200
    assert "tshark -r" in str(wire.save(tmp_path / f"before.{form}"))
    assert found_in(tmp_path / f"before.{form}") == (1, 0)
    assert wire.requests == ["GET /healthz HTTP/1.1"]
    assert wire.readable and not wire.encrypted
    assert b"GET /healthz HTTP/1.1\r\nHost: server.shop:5000" in (tmp_path / f"before.{form}").read_bytes()


@pytest.mark.parametrize("form", ["pcapng", "pcap"])
def test_after_strict_there_is_only_tls(strict: Lab, tmp_path: Path, found_in: Reader, form: str) -> None:
    assert status(strict, CLIENT) == 200  # so that a connection is there already when the capture begins
    with strict.capture(SERVER) as wire:
        assert status(strict, CLIENT) == 200
    wire.save(tmp_path / f"after.{form}")
    requests, records = found_in(tmp_path / f"after.{form}")
    assert requests == 0 and records >= 4
    assert wire.encrypted and not wire.readable and not wire.requests
    assert b"healthz" not in (tmp_path / f"after.{form}").read_bytes()


def test_a_refused_client_has_said_its_words_already(strict: Lab) -> None:
    with strict.capture(SERVER) as wire:
        refused = strict.probe(OLD, URL)
    assert refused.exit_code == 56  # as without a capture
    (connection,) = wire.all_connections()
    assert connection.ended == REFUSED and connection.readable
    assert wire.requests == ["GET /healthz HTTP/1.1"]
    assert "1 plaintext connection refused by the server" in str(wire)


def test_the_handshake_shows_whom_the_client_means(lab: Lab) -> None:
    with lab.capture(SERVER) as wire:
        assert status(lab, CLIENT) == 200
    (connection,) = wire.all_connections()
    assert (connection.peer, connection.port, connection.on_the_wire) == (CLIENT, 5000, "TLS")
    assert connection.sni == SNI and "istio" in connection.alpn
    hello, answer = (one for one in wire.with_data() if one.kind is Kind.HANDSHAKE)
    assert hello.detail.startswith(f"ClientHello sni={SNI} alpn=istio-http/1.1,istio")
    assert answer.detail.startswith("ServerHello TLS 1.3")
    assert all(one.entropy > 7 for one in wire.with_data() if one.size > 500)


def test_packets_are_a_table(lab: Lab) -> None:
    with lab.capture(SERVER) as wire:
        assert status(lab, OLD) == 200
    table = wire.packets
    asked, answered = table.to_dict("records")
    assert (asked["DIRECTION"], asked["KIND"], asked["WHAT"]) == ("in", "HTTP request", "GET /healthz HTTP/1.1")
    assert (answered["DIRECTION"], answered["WHAT"]) == ("out", "HTTP/1.1 200 OK")
    assert asked["TEXT"].startswith("GET /healthz") and asked["HEX"].startswith("47 45 54 20")
    assert 3.5 < float(asked["ENTROPY"]) < 6 and asked["PORT"] == 5000
    assert len(asked["HEX"].split()) == SHOWN_BYTES
    for shown in (repr(wire), wire._repr_html_()):
        assert "GET /healthz HTTP/1.1" in shown and "1 connection (1 readable)" in shown


def test_what_stands_behind_the_question_mark_is_in_the_file_alone(lab: Lab, tmp_path: Path) -> None:
    with lab.capture(SERVER) as wire:
        status(lab, OLD, URL + "?api_key=secret123")
    for shown in (repr(wire), wire._repr_html_(), json.dumps(wire.as_data()), str(wire.packets)):
        assert "secret123" not in shown and "GET /healthz?... HTTP/1.1" in shown
    wire.save(tmp_path / "x.pcap")
    assert b"secret123" in (tmp_path / "x.pcap").read_bytes()


def test_before_and_after_stand_side_by_side(lab: Lab) -> None:
    with lab.capture(SERVER) as before:
        assert status(lab, OLD) == 200
    with lab.capture(SERVER) as after:
        assert status(lab, CLIENT) == 200
    both = lab.compare_captures(before, after)
    rows = {name: (left, right) for name, left, right in both.rows()}
    assert rows["bytes that can be read"][1] == rows["bytes in TLS records"][0] == "0"
    assert int(rows["bytes that can be read"][0]) > 100 and int(rows["bytes in TLS records"][1]) > 1000
    assert float(rows["entropy, bits per byte"][0]) + 1 < float(rows["entropy, bits per byte"][1])
    assert rows["who asks for what"] == ("GET /healthz HTTP/1.1", f"SNI {SNI}")
    readable, secret = rows["the first bytes of data"]
    assert readable.startswith("GET /healthz") and "healthz" not in secret
    assert "BEFORE" in str(both) and "AFTER" in both._repr_html_()


# A capture changes nothing.

LOOP = "rm -f enough; until [ -e enough ]; do curl -s -o /dev/null -w '%{http_code} ' "


@contextlib.contextmanager
def in_background(lab: Lab, client: str, url: str = URL) -> Iterator[list[str]]:
    """Requests, one after the other, while the block lasts; the list has their codes afterwards."""
    namespace, app = client.split("/")
    pod = lab.cluster.objects("pods", namespace, labels={"app": app})[0]["metadata"]["name"]
    codes: list[str] = []

    def run(script: str) -> str:
        return lab.cluster.execute(pod, namespace, ["sh", "-c", script], container="app", limit=90).stdout

    thread = threading.Thread(target=lambda: codes.extend(run(f"{LOOP} {url}; done").split()))
    thread.start()
    try:
        yield codes
    finally:
        run("touch enough")
        thread.join()


@pytest.mark.parametrize("client", [CLIENT, OLD])
def test_traffic_does_not_notice_captures_that_begin_and_end(lab: Lab, client: str) -> None:
    before = lab.mtls_mode("shop", SERVER)
    seen = 0
    with in_background(lab, client) as codes:
        for _ in range(4):
            with lab.capture(SERVER) as wire:
                wait_for("traffic", lambda wire=wire: len(wire.with_data()) >= 4)  # type: ignore[misc]
            seen += len(wire.all_connections())
    assert set(codes) == {"200"} and seen >= 4
    assert lab.mtls_mode("shop", SERVER) == before


def test_the_same_traffic_does_notice_a_server_that_refuses(strict: Lab) -> None:
    with in_background(strict, OLD) as codes, strict.capture(SERVER) as wire:
        wait_for("traffic", lambda: len(wire.with_data()) >= 4)
    assert set(codes) == {"000"}


def around(address: tuple[str, int]) -> tuple[int, int]:
    """How many listen at an address, and how many connections are there."""
    sockets: Sockets = read_sockets()
    connections = sum(here == address for here, _ in sockets.connections)
    return len(sockets.listening[address]), connections


def test_nothing_stays_in_the_way(lab: Lab) -> None:
    address = address_of(lab, "server")
    assert status(lab, CLIENT) == 200
    wait_for("one listener, one connection", lambda: around(address) == (1, 1))
    with lab.capture(SERVER):
        assert status(lab, CLIENT) == 200
        assert around(address) == (2, 2)  # the hop listens, too; from the client to it, and from it to the server
    wait_for("the hop is gone", lambda: around(address) == (1, 0))
    assert status(lab, CLIENT) == 200
    assert around(address) == (1, 1)


def test_two_captures_at_once_see_the_same(lab: Lab) -> None:
    first = lab.capture(SERVER)
    with lab.capture(SERVER) as second:
        assert status(lab, OLD) == 200
    assert first.running and not second.running
    assert status(lab, OLD, URL + "/more") == 404
    first.stop()
    first.stop()  # again changes nothing
    assert second.requests == ["GET /healthz HTTP/1.1"]
    assert first.requests == ["GET /healthz HTTP/1.1", "GET /healthz/more HTTP/1.1"]


def test_a_pod_without_a_sidecar_is_seen_as_well(lab: Lab) -> None:
    with lab.capture(OLD) as wire:
        assert status(lab, CLIENT, "http://old.legacy:5000/chat") == 405
    assert "GET /chat HTTP/1.1" in wire.requests and not wire.encrypted


def test_a_capture_ends_by_itself(lab: Lab) -> None:
    wire = lab.capture(SERVER, limit=1)
    assert wire.running
    assert status(lab, OLD) == 200
    wait_for("its end", lambda: not wire.running)
    assert wire.requests == ["GET /healthz HTTP/1.1"] and wire.notes == ["it ended by itself after 1 s"]
    assert lab.capture(SERVER, seconds=0.3).all_packets() == []


def test_a_capture_has_an_end(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "MOST_PACKETS", 4)
    with lab.capture(SERVER) as wire:
        assert status(lab, OLD) == 200
        wait_for("its end", lambda: not wire.running)
    assert wire.notes == ["it ended by itself after 4 packets"] and len(wire.all_packets()) == 4


def test_the_container_is_used_again(lab: Lab) -> None:
    lab.capture(SERVER, seconds=0.1)
    before = debuggers(lab)
    lab.capture(SERVER, seconds=0.1)
    assert debuggers(lab) == before == ["labkit-wire-1"]


def debuggers(lab: Lab) -> list[str]:
    pods = lab.cluster.objects("pods", "shop", labels={"app": "server"})
    return [one["name"] for pod in pods for one in pod["spec"].get("ephemeralContainers") or ()]


def test_all_pods_of_a_workload_are_seen(lab: Lab) -> None:
    scale(lab, 2)
    try:
        with lab.capture(SERVER) as wire, in_background(lab, OLD):
            wait_for("both pods", lambda: len({one.target for one in wire.with_data() if wire.is_inward(one)}) == 2)
        times = [one.time for one in wire.all_packets()]
        assert times == sorted(times)
    finally:
        scale(lab, 1)


def scale(lab: Lab, replicas: int) -> None:
    lab.cluster.patch("Deployment", "server", {"spec": {"replicas": replicas}}, "shop")
    lab.wait_until_ready(SERVER)
    wait_for("the pods", lambda: len(lab.cluster.objects("pods", "shop", labels={"app": "server"})) == replicas)


def test_mtls_ends_at_the_proxy(strict: Lab) -> None:
    assert status(strict, CLIENT) == 200  # the proxy has a connection to its application already
    with strict.capture(SERVER) as outside, strict.capture(SERVER, inside=True) as inside:
        assert status(strict, CLIENT) == 200
    assert outside.encrypted and not outside.requests
    assert inside.requests == ["GET /healthz HTTP/1.1"] and not inside.encrypted
    assert [one.peer for one in inside.all_connections()] == ["istio-proxy"]
    assert "Inside shop/server, from the proxy to the application" in str(inside) and "-i lo" in str(inside)
    both = strict.compare_captures(outside, inside)
    assert both.names == ("OUTSIDE", "INSIDE")


def test_without_a_sidecar_there_is_no_inside(lab: Lab) -> None:
    with pytest.raises(InputError, match="legacy/old has no sidecar"):
        lab.capture(OLD, inside=True)


def test_the_proxys_own_ports_can_be_looked_at(lab: Lab) -> None:
    address, _ = address_of(lab, "server")
    with lab.capture(SERVER, port=15090) as wire:
        assert status(lab, OLD, f"http://{address}:15090/stats/prometheus") == 200
    assert wire.requests == ["GET /stats/prometheus HTTP/1.1"]
    with pytest.raises(InputError, match="has no port 15090"):
        lab.capture(OLD, port=15090)


def test_in_the_proxy_as_istios_page_on_migration_does_it(lab: Lab) -> None:
    """https://istio.io/latest/docs/tasks/security/authentication/mtls-migration/, "Lock down to mutual TLS"."""
    (pod,) = lab.cluster.objects("pods", "shop", labels={"app": "server"})
    seen = {}
    for client in (CLIENT, OLD):
        command = ["sudo", "tcpdump", "dst", "port", "5000", "-A", "-c", "8"]
        with in_background(lab, client):
            done = lab.cluster.execute(pod["metadata"]["name"], "shop", command, container="istio-proxy")
        assert done.exit_code == 0, done.stderr
        seen[client] = "GET /healthz HTTP/1.1" in done.stdout
    assert seen == {CLIENT: False, OLD: True}


def test_by_hand_with_the_line_that_is_shown(lab: Lab, tmp_path: Path) -> None:
    kubectl = program("kubectl", "the line that captures show was not tried")
    assert lab.cluster.kubeconfig
    terminal = Terminal(tmp_path, Path(kubectl), lab.cluster.kubeconfig)
    (line,) = lab.capture(SERVER, seconds=0.1).kubectl
    with in_background(lab, OLD):
        code, said = terminal.in_terminal(line, [("GET /healthz HTTP/1.1", "\x03")])
    assert code == 0 and re.search(r"IP \S+ > \S+\.5000: Flags \[P\.\]", said) and "packets captured" in said


def test_from_the_node_all_pods_are_seen(lab: Lab, tmp_path: Path) -> None:
    """As one looks at mTLS from a node of AKS: a shell on the node, and `tcpdump -i eth0 -n -c 15 -X port 8080`."""
    kubectl = program("kubectl", "the node was not debugged with it")
    assert lab.cluster.kubeconfig
    terminal = Terminal(tmp_path, Path(kubectl), lab.cluster.kubeconfig)
    line = "kubectl debug node/labkit-node -it --profile=general --image=nicolaka/netshoot -- tcpdump -i eth0 -n -c 60"
    with in_background(lab, OLD), in_background(lab, CLIENT, "http://old.legacy:5000/healthz"):
        code, said = terminal.in_terminal(f"{line} -X port 5000")
    assert code == 0 and "tcpdump, which sees what crosses to all pods" in said
    called = set(re.findall(r" > (\S+)\.5000: ", said))
    assert called == {address_of(lab, "server")[0], address_of(lab, "old", "legacy")[0]}
    assert "GET /hea" in said  # as far as a line of 16 bytes goes


# What cannot be looked at is one clear error, or a line.


@pytest.mark.parametrize(
    ("server", "options", "words"),
    [
        pytest.param("shop/nobody", {}, "nobody", id="no workload"),
        pytest.param(SERVER, {"port": 5001}, "shop/server has no port 5001", id="no port"),
        pytest.param(SERVER, {"limit": 0}, "cannot run for 0 s", id="no time"),
    ],
)
def test_what_is_not_there_is_said(lab: Lab, server: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        lab.capture(server, **options)
    assert error.value.next_step


def test_an_image_that_nobody_has(lab: Lab) -> None:
    with pytest.raises(ClusterError, match="does not start") as error:
        lab.capture(SERVER, image="nobody.invalid/no/such:1")
    assert "LABKIT_CAPTURE_IMAGE" in error.value.next_step


def test_an_image_without_tcpdump(lab: Lab) -> None:
    if shutil.which("tcpdump"):
        pytest.skip("THIS MACHINE HAS A TCPDUMP OF ITS OWN, and pods find it")
    with pytest.raises(ClusterError, match="tcpdump does not run in pod server-"):
        lab.capture(SERVER, image="busybox")


def test_a_pod_that_goes_away_meanwhile(lab: Lab) -> None:
    wire = lab.capture(SERVER)
    assert status(lab, OLD) == 200
    lab.restart(SERVER)
    wait_for("its end", lambda: not wire.running)
    wire.stop()
    assert wire.requests == ["GET /healthz HTTP/1.1"]
    assert any("it broke off" in note for note in wire.notes), wire.notes
    assert status(lab, OLD) == status(lab, CLIENT) == 200
    with lab.capture(SERVER) as again:  # the new pod
        assert status(lab, OLD) == 200
    assert len(again.requests) == 1


# From a shell


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["capture", *arguments, "--cluster", f"embedded:{NAME}"])


def test_from_a_shell(lab: Lab, tmp_path: Path) -> None:
    with in_background(lab, OLD) as codes:
        done = run("server", "-n", "shop", "--seconds", "1", "-w", str(tmp_path / "x.pcapng"), "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["readable"] and "GET /healthz HTTP/1.1" in {one["what"] for one in data["packets"]}
    assert by_labkit(tmp_path / "x.pcapng")[0] >= 1 and set(codes) == {"200"}


def test_interrupted_it_shows_and_keeps_what_was_seen(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    # What a shell starts in the background ignores Ctrl-C, and so would all that these tests start.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    words = [
        sys.executable,
        "-c",
        f"{listening}; from labkit.cli import main; main()",
        "capture",
        SERVER,
        "--seconds",
        "100",
        "-w",
        str(file),
        "--json",
    ]
    command = subprocess.Popen(
        [*words, "--cluster", f"embedded:{NAME}"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert command.stderr and "Ctrl-C" in command.stderr.readline()
        assert status(lab, OLD) == 200
        command.send_signal(signal.SIGINT)
        told, _ = command.communicate(timeout=60)
    finally:
        command.kill()
        command.wait()
    assert (command.returncode, json.loads(told)["readable"]) == (0, True)
    assert by_labkit(file)[0] >= 1


def test_from_a_shell_of_nobody(lab: Lab) -> None:
    assert run("shop/nobody").exit_code == 2
