"""What the image `prometheus-config-reloader` runs here: tells Prometheus when its configuration has changed.

    --watched-dir=DIR      look at the files of this directory (again for more)
    --config-file=FILE     or at one file
    --reload-url=URL       POST there after a change
    --listen-address=A:P   answers /healthz

As https://github.com/prometheus-operator/prometheus-operator/tree/main/cmd/prometheus-config-reloader does in a real
pod; here the configuration has to be adapted again first, see `prometheus_start`.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from labkit.embedded.node.prometheus_start import MADE_OF, Pod, adapt_again

LOOK_SECONDS = 1.0
"""The node replaces the files of a changed ConfigMap and tells nobody."""


class Health(BaseHTTPRequestHandler):
    """GET /healthz -> 200."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200 if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Probes are not worth a line each."""


def options(arguments: Iterable[str]) -> dict[str, list[str]]:
    """`--name=value` by name."""
    found: dict[str, list[str]] = {}
    for argument in arguments:
        name, _, value = argument.lstrip("-").partition("=")
        found.setdefault(name, []).append(value)
    return found


def content(places: Iterable[Path]) -> str:
    """What stands in these files and directories, as one mark."""
    mark = hashlib.blake2b()
    for place in places:
        for file in sorted(place.iterdir()) if place.is_dir() else [place]:
            if file.is_file():
                mark.update(file.name.encode() + b"\0" + file.read_bytes())
    return mark.hexdigest()


def reload(pod: Pod, url: str) -> bool:
    """Adapt the configuration again and tell Prometheus; whether it has taken it."""
    if not (pod.root / MADE_OF).exists():
        return False  # it has not begun yet, and will read what is there
    try:
        adapt_again(pod)
        request = urllib.request.Request(url, method="POST")  # noqa: S310
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
            return True
    except (OSError, ValueError, yaml.YAMLError) as error:
        print(f"reloader: {url}: {error}", file=sys.stderr, flush=True)
        return False


def main() -> None:
    """Look until the pod ends."""
    wanted, pod = options(sys.argv[1:]), Pod(os.environ)
    # The node has led these paths below the pod's root, where they are mounts.
    places = [Path(pod.path(each)) for name in ("watched-dir", "config-file") for each in wanted.get(name, [])]
    host, _, port = wanted.get("listen-address", [":8080"])[-1].rpartition(":")
    server = ThreadingHTTPServer((host or "0.0.0.0", int(port)), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    known = content(places)
    while True:
        time.sleep(LOOK_SECONDS)  # between two looks
        seen = content(places)
        if seen != known and reload(pod, wanted.get("reload-url", ["http://127.0.0.1:9090/-/reload"])[-1]):
            known = seen
            print("reloader: Prometheus has taken the changed configuration", flush=True)


if __name__ == "__main__":
    main()
