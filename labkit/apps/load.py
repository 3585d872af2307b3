"""Sends requests for ever, one after the other, and prints a line for each: what `while true; do curl ...` does.

$TARGETS has a line for each target: a URL, and maybe a Host header after a space. $REQUESTS_PER_SECOND (1) is for each
target. The log tells what came back: `200 http://sentences:5000/ Grace is 37 years old.`
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
from collections.abc import Iterable
from urllib.parse import urlsplit

from labkit.apps.calling import CALL_SECONDS, reason
from labkit.apps.webapp import _leave


def targets(text: str) -> list[tuple[str, str]]:
    """(URL, Host header or nothing) of each line that is not empty."""
    found = []
    for line in text.splitlines():
        url, _, host = line.strip().partition(" ")
        if url:
            found.append((url, host.strip()))
    return found


def send(url: str, host: str = "") -> str:
    """One request, as a line: the status and the first words of the answer, or why there was none."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=CALL_SECONDS)
    try:
        connection.request("GET", parts.path or "/", headers={"Host": host} if host else {})
        response = connection.getresponse()
        words = " ".join(response.read().decode("utf-8", "replace").split())
        return f"{response.status} {url} {words[:80]}"
    except TimeoutError:
        return f"--- {url} no answer in {CALL_SECONDS:.0f} seconds"
    except (OSError, http.client.HTTPException) as error:
        return f"--- {url} {reason(error)}"
    finally:
        connection.close()


def loop(target: tuple[str, str], pause: float, ended: threading.Event) -> None:
    """Requests to one target until `ended`."""
    while not ended.wait(pause):
        print(f"load: {send(*target)}", flush=True)


def main(wanted: Iterable[tuple[str, str]] | None = None) -> None:
    """Run a thread for each target until SIGTERM."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    wanted = list(wanted or targets(os.environ.get("TARGETS", "")))
    if not wanted:
        raise SystemExit("load: $TARGETS names no URL")
    pause, ended = 1.0 / float(os.environ.get("REQUESTS_PER_SECOND", "1")), threading.Event()
    for target in wanted[1:]:
        threading.Thread(target=loop, args=(target, pause, ended), daemon=True).start()
    loop(wanted[0], pause, ended)


if __name__ == "__main__":
    main()
