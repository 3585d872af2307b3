"""`sitecustomize.py` in fresh interpreters: what it changes, and that it never stands in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.embedded import addresses
from labkit.embedded.node.network import Redirect, render_hosts, view_of
from labkit.embedded.node.sandbox import POD_PYTHON

POD_IP = "127.63.7.1"  # below the blocks that clusters take
SERVICES = [{"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "127.63.0.10"}}]


def run(code: str, hosts: Path | str | None, *flags: str) -> subprocess.CompletedProcess[str]:
    env = {"PYTHONPATH": str(POD_PYTHON), "HOSTNAME": "cart-1"}
    if hosts is not None:
        env["POD_HOSTS"] = str(hosts)
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=10)


@pytest.fixture(params=["plain", "redirected"])
def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    redirect = Redirect(15006, 15001) if request.param == "redirected" else None
    file = tmp_path / "hosts.json"
    file.write_text(render_hosts(view_of("shop", "cart-1", POD_IP, redirect), SERVICES, 6443))
    return file


def own(hosts: Path) -> str:
    return str(json.loads(hosts.read_text())["own"])


def test_an_absent_or_broken_file_changes_nothing(tmp_path: Path):
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[0])"
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for file in (None, "", "/no/such/file", broken):
        result = run(code, file)
        assert (result.stdout, result.stderr) == ("127.0.0.1\n", "")


def test_python_without_site_is_left_alone(hosts: Path):
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[0])"
    assert run(code, hosts, "-S", "-E").stdout == "127.0.0.1\n"


def test_localhost_is_where_the_pods_programs_listen(hosts: Path):
    code = (
        "import socket; s = socket.create_server(('localhost', 0)); port = s.getsockname()[1]\n"
        "c = socket.create_connection(('localhost', port)); print(c.getpeername()[0], s.getsockname()[0])"
    )
    assert run(code, hosts).stdout == f"{own(hosts)} {own(hosts)}\n"


def test_a_server_of_the_standard_library_starts_at_once(hosts: Path):
    code = "import http.server; s = http.server.HTTPServer(('', 80), None); print(*s.server_address, s.server_name)"
    begun = time.monotonic()
    assert run(code, hosts).stdout == f"{own(hosts)} 20080 cart-1\n"
    assert time.monotonic() - begun < 4  # no resolver was asked


def test_asyncio_is_translated_too(hosts: Path):
    code = (
        "import asyncio\n"
        "async def main():\n"
        "    server = await asyncio.start_server(lambda r, w: w.close(), None, 8080)\n"
        "    reader, writer = await asyncio.open_connection('localhost', 8080)\n"
        "    print(len(server.sockets), writer.get_extra_info('peername')[0])\n"
        "asyncio.run(main())"
    )
    assert run(code, hosts).stdout == f"1 {own(hosts)}\n"


def test_a_service_is_reached_by_name_through_the_right_address(hosts: Path):
    redirected = json.loads(hosts.read_text())["redirected"]
    target = addresses.captured_ip(POD_IP, "127.63.0.10") if redirected else "127.63.0.10"
    code = (
        "import socket, _socket\n"
        f"there = _socket.socket(); there.bind(('{target}', 20080)); there.listen()\n"
        "for name in ('web', 'WEB.shop.svc.cluster.local.', '127.63.0.10'):\n"
        "    c = socket.create_connection((name, 80), timeout=5)\n"
        "    print(*c.getpeername(), c.getsockname()[0])"
    )
    assert run(code, hosts).stdout == f"{target} 20080 {POD_IP}\n" * 3


def test_the_api_server_is_reached_directly(hosts: Path):
    code = (
        "import socket, _socket\n"
        "there = _socket.socket(); there.bind(('127.63.0.1', 6443)); there.listen()\n"
        "print(*socket.create_connection(('127.63.0.1', 443), timeout=5).getpeername())"
    )
    assert run(code, hosts).stdout == "127.63.0.1 6443\n"


def test_the_proxys_own_ports_are_found_on_localhost(tmp_path: Path):
    file = tmp_path / "hosts.json"
    file.write_text(render_hosts(view_of("shop", "cart-1", POD_IP, Redirect(15006, 15001)), SERVICES, 6443))
    code = (
        "import socket, _socket\n"
        f"there = _socket.socket(); there.bind(('{POD_IP}', 15021)); there.listen()\n"
        "print(*socket.create_connection(('localhost', 15021), timeout=5).getpeername())"
    )
    assert run(code, file).stdout == f"{POD_IP} 15021\n"


@pytest.mark.parametrize("gateway", [False, True])
def test_the_proxys_admin_port_is_inside_of_the_pod(tmp_path: Path, gateway: bool):
    file = tmp_path / "hosts.json"
    redirect = None if gateway else Redirect(15006, 15001)
    file.write_text(render_hosts(view_of("shop", "cart-1", POD_IP, redirect, gateway=gateway), SERVICES, 6443))
    inside = json.loads(file.read_text())["inside_ip"]
    code = (
        "import socket, _socket\n"
        f"there = _socket.socket(); there.bind(('{inside}', 15000)); there.listen()\n"
        "print(*socket.create_connection(('localhost', 15000), timeout=5).getpeername())"
    )
    assert run(code, file).stdout == f"{inside} 15000\n"


def test_an_unknown_name_of_the_cluster_fails_at_once(hosts: Path):
    code = "import socket\ntry: socket.getaddrinfo('none.shop.svc', 80)\nexcept socket.gaierror as e: print(e.strerror)"
    begun = time.monotonic()
    assert run(code, hosts).stdout == "Name or service not known\n"
    assert time.monotonic() - begun < 4


def test_addresses_of_others_are_left_alone(hosts: Path):
    code = (
        "import socket, _socket\n"
        "there = _socket.socket(); there.bind(('127.0.0.77', 0)); there.listen()\n"
        "c = socket.create_connection(there.getsockname(), timeout=5); print(c.getpeername()[0])"
    )
    assert run(code, hosts).stdout == "127.0.0.77\n"


def test_a_rewritten_file_is_read_again(hosts: Path):
    added = hosts.read_text().replace('"web"', '"bank": "127.63.0.11", "web"')
    code = (
        "import os, socket\n"
        "socket.gethostbyname('web')\n"
        f"open({str(hosts) + '.new'!r}, 'w').write({added!r}); os.replace({str(hosts) + '.new'!r}, {str(hosts)!r})\n"
        "print(socket.gethostbyname('bank'))"
    )
    assert run(code, hosts).stdout == "127.63.0.11\n"


def test_unix_sockets_still_work(hosts: Path, tmp_path: Path):
    code = (
        "import socket\n"
        f"s = socket.socket(socket.AF_UNIX); s.bind({str(tmp_path / 's')!r}); s.listen()\n"
        f"c = socket.socket(socket.AF_UNIX); c.connect({str(tmp_path / 's')!r}); print('ok')"
    )
    assert run(code, hosts).stdout == "ok\n"


def test_ports_are_moved_as_the_address_plan_says():
    source = (POD_PYTHON / "sitecustomize.py").read_text()
    assert f"port + {addresses.LOW_PORT_SHIFT}" in source and "0 < port < 1024" in source
    assert addresses.listen_port(1023) == 1023 + addresses.LOW_PORT_SHIFT and addresses.listen_port(1024) == 1024


def test_it_costs_a_program_next_to_nothing(hosts: Path):
    """No module is loaded for it: that is what a program's start would feel."""

    def loaded(env: dict[str, str]) -> set[str]:
        command = [sys.executable, "-c", "import socket, sys; print(*sys.modules)"]
        done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
        return set(done.stdout.split())

    with_it = {"PYTHONPATH": str(POD_PYTHON), "POD_HOSTS": str(hosts), "PATH": os.environ["PATH"]}
    added = loaded(with_it) - loaded({"PATH": os.environ["PATH"]})
    assert added == {"sitecustomize"}
