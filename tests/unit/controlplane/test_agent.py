"""`pilot-agent`: its flags, what it writes, and how fast it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.embedded.controlplane import agent

ISTIO_ARGS = [
    *("-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*"),
    *("-d", "15090,15021,15020", "--log_output_level=default:info"),
]


def test_istios_own_arguments_are_understood() -> None:
    assert agent.parse_redirection(ISTIO_ARGS) == {
        "inbound_port": 15006,
        "outbound_port": 15001,
        "uid": 1337,
        "exclude_inbound": [15090, 15021, 15020],
    }


def test_long_flags_say_the_same() -> None:
    flags = ["--envoy-port=1", "--inbound-capture-port", "2", "--proxy-uid=3", "--istio-local-exclude-ports", "4,5"]
    assert agent.parse_redirection(flags) == {
        "inbound_port": 2,
        "outbound_port": 1,
        "uid": 3,
        "exclude_inbound": [4, 5],
    }


def test_the_redirection_is_written_for_the_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent.main(["istio-iptables", *ISTIO_ARGS], {"POD_NET": str(tmp_path)}) == 0
    assert json.loads((tmp_path / "redirect.json").read_text())["inbound_port"] == 15006
    assert "15090,15021,15020" in capsys.readouterr().out


def test_a_port_that_is_no_number_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent.main(["istio-iptables", "-p", "many"], {"POD_NET": str(tmp_path)}) == 1
    assert "not a number" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_outside_of_a_pod_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert agent.main(["proxy", "sidecar"], {}) == 1
    assert "no container of a pod" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["request", "GET"], ["request", "PUT", "/"]])
def test_what_it_does_not_know_gets_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert agent.main(arguments, {}) == 2
    assert "usage: pilot-agent" in capsys.readouterr().err


def test_without_an_envoy_a_request_fails_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent.main(["request", "GET", "stats"], {"POD_RUN": str(tmp_path)}) == 1
    assert "does not answer" in capsys.readouterr().err


def test_it_starts_without_site_packages() -> None:
    command = [sys.executable, "-S", "-E", agent.__file__, "version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == agent.VERSION


def test_it_imports_nothing_heavy() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(agent.__file__).parents[3])!r});"
        "import labkit.embedded.controlplane.agent, labkit.embedded.controlplane.translation.bootstrap;"
        "print([m for m in ('asyncio', 'ssl', 'yaml', 'aiohttp', 'cryptography') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-S", "-E", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
