"""`pilot-agent`: the program of the containers istio-init and istio-proxy.

    pilot-agent istio-iptables -p 15001 -z 15006 -u 1337 -d 15090,15021,15020 ...
        switches the redirection of this pod on, by writing $POD_NET/redirect.json for the node to read
    pilot-agent proxy sidecar
        writes the bootstrap and becomes Envoy
    pilot-agent request GET|POST <path>
        asks Envoy's admin interface, through its unix socket
    pilot-agent wait
        ends when the proxy of this pod is ready; the postStart hook that holds an application back
    pilot-agent version

The commands and flags are those of https://istio.io/latest/docs/reference/commands/pilot-agent/ that the lessons
and the injected pods use; other flags of the real program are accepted and ignored.

It runs twice in every injected pod, so it imports the standard library and Envoy's builders only, and works with
`python -S -E`, which saves half of Python's start. Simplified: the real agent stays, asks istiod for certificates
and serves port 15020; here Envoy asks istiod for everything and serves 15020.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

VERSION = "1.24.0-labkit"
XDS_MOUNT = "var/run/istio/xds"
"""Where istiod notes what every sidecar is to run, below $POD_ROOT; a hostPath volume."""

USAGE = "usage: pilot-agent {proxy sidecar | istio-iptables [flags] | request GET|POST <path> | wait | version}"


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run one command; the exit code."""
    command, *rest = arguments or [""]
    try:
        if command == "istio-iptables":
            return redirect(rest, environment)
        if command == "request":
            return request(rest, environment)
        if command == "proxy":
            become_envoy(rest, environment)
        if command == "wait":
            return wait(environment)
        if command == "version":
            print(VERSION)
            return 0
    except KeyError as error:
        print(f"pilot-agent: {error.args[0]} is not in the environment: this is no container of a pod", file=sys.stderr)
        return 1
    print(USAGE, file=sys.stderr)
    return 2


# istio-iptables

_FLAGS = {
    "-p": "outbound_port",
    "--envoy-port": "outbound_port",
    "-z": "inbound_port",
    "--inbound-capture-port": "inbound_port",
    "-u": "uid",
    "--proxy-uid": "uid",
    "-d": "exclude_inbound",
    "--istio-local-exclude-ports": "exclude_inbound",
}


def parse_redirection(arguments: Sequence[str]) -> dict[str, object]:
    """The flags of istio-iptables as the node reads them.

    -m, -i, -x, -b and others of iptables are accepted: here all TCP is redirected, as with their values in a pod.
    """
    found: dict[str, object] = {"inbound_port": 15006, "outbound_port": 15001, "uid": 1337, "exclude_inbound": []}
    values = iter(_split(arguments))
    for flag in values:
        name = _FLAGS.get(flag)
        if name == "exclude_inbound":
            found[name] = [int(port) for port in next(values, "").split(",") if port]
        elif name:
            found[name] = int(next(values, ""))
    return found


def _split(arguments: Sequence[str]) -> list[str]:
    """`--flag=value` as two."""
    return [part for argument in arguments for part in (argument.split("=", 1) if argument[:2] == "--" else [argument])]


def redirect(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Switch the redirection of this pod on."""
    try:
        rules = parse_redirection(arguments)
    except ValueError as error:
        print(f"istio-iptables: a port or a user is not a number: {error}", file=sys.stderr)
        return 1
    target = Path(environment["POD_NET"]) / "redirect.json"
    aside = target.with_name(".redirect.json.new")
    aside.write_text(json.dumps(rules))
    aside.replace(target)
    excluded = ",".join(str(port) for port in rules["exclude_inbound"])  # type: ignore[attr-defined]
    print(
        f"Inbound TCP goes to the proxy on {rules['inbound_port']} (except ports {excluded or 'none'}), "
        f"outbound TCP to services through it. There is no iptables here: the pod's processes listen inside."
    )
    return 0


# proxy


def admin_socket(environment: Mapping[str, str]) -> Path:
    """Envoy's admin interface. Its directory is short, because a unix socket's path is, and private."""
    return Path(environment["POD_RUN"]) / "envoy-admin.sock"


def xds_socket(environment: Mapping[str, str]) -> Path:
    """Where istiod listens for the proxies of its node: beside the pods' short, private directories."""
    return Path(environment["POD_RUN"]).parent / "xds.sock"


def become_envoy(arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Write the bootstrap, and replace this process by Envoy."""
    from labkit.embedded import envoy
    from labkit.embedded.controlplane.translation.bootstrap import make_bootstrap, relay_socket

    root = Path(environment["POD_ROOT"])
    # A killed predecessor leaves its sockets behind, and Envoy does not bind over them.
    socket_path = envoy.check_socket_path(admin_socket(environment))
    for path in (socket_path, envoy.check_socket_path(relay_socket(socket_path))):
        path.unlink(missing_ok=True)
    bootstrap = root / "etc/istio/proxy/envoy-rev.json"
    bootstrap.parent.mkdir(parents=True, exist_ok=True)
    envoy.write_atomically(bootstrap, make_bootstrap(environment, xds_socket(environment), socket_path))
    command = envoy.envoy_command(
        _envoy_binary(), bootstrap, log_level=_log_level(arguments), concurrency=_concurrency(arguments)
    )
    # Every line of the access log at once: a learner sends one request and looks.
    command += ["--file-flush-min-size-kb", "0"]
    os.execv(command[0], command)


def _envoy_binary() -> Path:
    """The Envoy of this environment, also when Python was started without its site-packages (-S)."""
    from labkit.embedded import envoy

    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    binary = Path(sys.executable).parent.parent / "lib" / version / "site-packages/envoy/_bin/envoy"
    if os.access(binary, os.X_OK):
        return binary
    import site

    site.main()
    return envoy.envoy_binary()


def _log_level(arguments: Sequence[str]) -> str:
    values = iter(_split(arguments))
    return next((next(values, "") for flag in values if flag == "--proxyLogLevel"), "") or "warning"


def _concurrency(arguments: Sequence[str]) -> int:
    values = iter(_split(arguments))
    return int(next((next(values, "") for flag in values if flag == "--concurrency"), "") or 1)


# wait

WAIT_SECONDS = 60.0  # Istio's default of --timeoutSeconds


def wait(environment: Mapping[str, str]) -> int:
    """End as soon as the proxy answers that it is ready; 1 when it does not in time."""
    import time
    from http.client import HTTPConnection, HTTPException

    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        connection = HTTPConnection(environment["INSTANCE_IP"], 15021, timeout=1)
        try:
            connection.request("GET", "/healthz/ready")
            if connection.getresponse().status == 200:
                return 0
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.02)  # between two looks
    print(f"pilot-agent: the proxy was not ready within {WAIT_SECONDS:g} s", file=sys.stderr)
    return 1


# request

METRICS_PATH = "stats/prometheus"


def request(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Print Envoy's answer; 1 when it is an error, or when no Envoy answers."""
    from labkit.embedded.envoy import admin_get

    if len(arguments) != 2 or arguments[0] not in ("GET", "POST"):
        print("usage: pilot-agent request GET|POST <path>, for example: request GET config_dump", file=sys.stderr)
        return 2
    method, path = arguments
    try:
        if path.strip("/").partition("?")[0] == METRICS_PATH:
            status, body = _metrics(path, environment)
        else:
            status, body = admin_get(admin_socket(environment), path, method=method)
    except OSError as error:
        print(f"pilot-agent: Envoy's admin interface does not answer: {error}", file=sys.stderr)
        return 1
    sys.stdout.write(body)
    return 0 if status < 400 else 1


def _metrics(path: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """The page of metrics as scrapers see it: on Envoy's own page, Istio's metrics are written in short."""
    from http.client import HTTPConnection

    connection = HTTPConnection(environment["INSTANCE_IP"], 15090, timeout=10)
    try:
        connection.request("GET", f"/{path.lstrip('/')}")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


if __name__ == "__main__":
    # Started as a file, Python looks for modules beside it first; modules are found from the project's root instead.
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    sys.exit(main(sys.argv[1:], os.environ))
