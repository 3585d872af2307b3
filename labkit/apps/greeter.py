"""A TCP server that speaks first, as mail and database servers do: it greets whoever connects, then waits for a line.

A proxy that waits for the client's first bytes, to find out what they are, waits for ever here. The port's name or its
appProtocol tells it not to. https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/
"""

from __future__ import annotations

import contextlib
import socketserver

from labkit.apps.webapp import run

PORT = 2525
IDLE_SECONDS = 300
LINE_BYTES = 512


class Greeter(socketserver.StreamRequestHandler):
    """Greets, repeats each line, and says goodbye at QUIT."""

    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True

    def handle(self) -> None:
        print(f"greeter: {self.client_address[0]} connected", flush=True)
        with contextlib.suppress(OSError):
            self._say("220 greeter ready, you go next")
            while line := self.rfile.readline(LINE_BYTES):
                words = line.decode("utf-8", "replace").strip()
                if words.upper() == "QUIT":
                    return self._say("221 goodbye")
                self._say(f"250 you said {words!r}")
        return None

    def _say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())


class Server(socketserver.ThreadingTCPServer):
    """A thread for each caller."""

    daemon_threads = True
    allow_reuse_address = True


def main() -> None:
    """Serve on $HOST:$PORT until SIGTERM."""
    run(lambda address: Server(address, Greeter), "greeter", PORT)


if __name__ == "__main__":
    main()
