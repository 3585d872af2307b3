"""What the lessons' applications share: a small JSON web server on the standard library.

It knows no application. An application subclasses `WebHandler`, fills `routes` and calls `serve`.

House rules: one log line per request on standard output; every error is JSON `{"error": ...}` with the right status;
SIGTERM ends the process at once; an idle server does not wake up.

An application behind a sidecar may learn who called: the sidecar hands the name in the client's certificate on, as the
header x-forwarded-client-cert, and takes away what a client without a certificate claims there. Answers repeat that
name as `x-caller`, so that a learner sees what the application sees.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import sys
import time
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, NoReturn

# A chat message is a few lines; whoever sends more is mistaken or unkind.
MAX_BODY_BYTES = 16 * 1024
# A refused body is read up to here, because closing a socket with unread bytes resets it, and the caller would see
# "connection reset" instead of our answer. Whoever sends even more sees the reset.
MAX_DISCARDED_BYTES = 1024 * 1024
# Envoy keeps idle upstream connections for an hour; ours are threads, so they end earlier.
IDLE_SECONDS = 300


class HttpError(Exception):
    """An answer other than success: a status, and one sentence that the caller may read."""

    def __init__(self, status: int, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.detail = detail

    def body(self) -> dict[str, str]:
        return {"error": self.message} | ({"detail": self.detail} if self.detail else {})


class WebHandler(BaseHTTPRequestHandler):
    """Dispatches requests to `routes`: (method, path) -> a method that returns (content type, body)."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    # Headers and body leave in one packet; two small ones would wait for each other (Nagle, delayed ACK).
    wbufsize = -1
    disable_nagle_algorithm = True

    application: ClassVar[str] = "webapp"
    routes: ClassVar[dict[tuple[str, str], Callable[[Any], tuple[str, bytes]]]] = {}

    def do_GET(self) -> None:
        self._dispatch()

    def do_POST(self) -> None:
        self._dispatch()

    def do_HEAD(self) -> None:
        self._dispatch()

    def do_PUT(self) -> None:
        self._dispatch()

    def do_DELETE(self) -> None:
        self._dispatch()

    def do_PATCH(self) -> None:
        self._dispatch()

    def _dispatch(self) -> None:
        self._started = time.monotonic()
        self._body_read = False
        try:
            content_type, body = self._route()(self)
            self._respond(200, content_type, body)
        except HttpError as error:
            self._respond_error(error)
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the caller has gone; there is nobody to answer
        except Exception as error:  # an error of ours must not end the thread silently
            print(f"{self.application}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            self._respond_error(HttpError(500, "Something went wrong inside the application."))

    def _route(self) -> Callable[[Any], tuple[str, bytes]]:
        path = self.path.partition("?")[0]
        method = "GET" if self.command == "HEAD" else self.command
        if handler := self.routes.get((method, path)):
            return handler
        if allowed := sorted(known for known, route in self.routes if route == path):
            self._allow = ", ".join(allowed)
            raise HttpError(405, f"{path} takes {self._allow}, not {self.command}.")
        raise HttpError(404, f"There is nothing at {path}.")

    def read_json(self) -> Any:
        """The request's body as JSON, or an HttpError that says what is wrong with it."""
        body = self._read_body()
        try:
            return json.loads(body)
        except ValueError as error:
            raise HttpError(400, "The body is not valid JSON.", detail=str(error)) from error
        except RecursionError as error:
            raise HttpError(400, "The body is not valid JSON.", detail="it is nested too deeply") from error

    def _read_body(self) -> bytes:
        declared = self.headers.get("Content-Length")
        if declared is None:
            raise HttpError(411, "The request needs a Content-Length header.")
        if not declared.isdecimal():
            raise HttpError(400, "The Content-Length header is not a number.")
        if int(declared) > MAX_BODY_BYTES:
            raise HttpError(413, f"The body is larger than {MAX_BODY_BYTES} bytes.")
        body = self.rfile.read(int(declared))
        self._body_read = True
        return body

    def _discard_body(self) -> bool:
        """Read a body that nobody wanted. False when its end is not known or too far away."""
        if self.headers is None or "Transfer-Encoding" in self.headers:
            return False
        declared = self.headers.get("Content-Length", "0")
        rest = int(declared) if declared.isdecimal() else MAX_DISCARDED_BYTES + 1
        if rest > MAX_DISCARDED_BYTES:
            return False
        self.rfile.read(rest)
        return True

    def handle_expect_100(self) -> bool:
        """Say "100 Continue" at once: our writes are buffered, and the caller waits for it."""
        proceed = super().handle_expect_100()
        self.wfile.flush()
        return proceed

    def _respond_error(self, error: HttpError) -> None:
        self._respond(error.status, "application/json", json.dumps(error.body()).encode())

    def _respond(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if caller := caller_in(self.headers):
            self.send_header("X-Caller", caller)
        if status == 405:
            self.send_header("Allow", self._allow)
        if content_type.startswith("text/html"):
            self.send_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline'; img-src 'self' data:")
            self.send_header("Cache-Control", "no-store")
        if not self._body_read and not self._discard_body():
            # What was not read would be taken for the next request on this connection.
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return self.application

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Requests that the standard library refuses (a bad request line, say) get JSON like all others."""
        self._body_read = False
        self.headers = getattr(self, "headers", None)  # type: ignore[assignment]  # none were read yet
        self.command = self.command or "-"
        self._respond_error(HttpError(code, message or "The request could not be understood."))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        milliseconds = (time.monotonic() - getattr(self, "_started", time.monotonic())) * 1000
        status = int(code) if isinstance(code, int) else code
        caller = caller_in(self.headers) or "an unknown caller"
        self.log_line(f'"{self.requestline}" {status} {milliseconds:.0f} ms, {caller} at {self.client_address[0]}')

    def log_message(self, format: str, *args: Any) -> None:
        self.log_line(format % args)

    def log_line(self, text: str) -> None:
        """One line on standard output; control characters in a request must not start a second one."""
        printable = "".join(c if c.isprintable() else "?" for c in text)
        print(f"{self.application}: {printable}", flush=True)


def caller_in(headers: Message | None) -> str:
    """The name in the client's certificate, as the sidecar reports it; empty when it reports none."""
    # Elements are separated by commas, oldest first; the last is the client of our own sidecar.
    report = (headers.get("X-Forwarded-Client-Cert", "") if headers is not None else "").rpartition(",")[2]
    return next((part[4:].strip('"') for part in report.split(";") if part.startswith("URI=")), "")


class WebServer(ThreadingHTTPServer):
    """A threading server that starts without name look-ups and leaves without waiting for its connections."""

    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        # HTTPServer looks its own host name up here, which takes seconds where DNS is unreachable.
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A caller that resets its connection is daily life, not an error worth a traceback.
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def serve(handler: type[WebHandler], *, default_port: int) -> NoReturn:
    """Serve `handler` on $HOST:$PORT until SIGTERM or Ctrl-C."""
    run(lambda address: WebServer(address, handler), handler.application, default_port)


def run(listen: Callable[[tuple[str, int]], socketserver.TCPServer], application: str, default_port: int) -> NoReturn:
    """Listen on $HOST:$PORT and serve until SIGTERM or Ctrl-C."""
    # Process 1 of a container ignores signals that it has no handler for.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    address = (os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", default_port)))
    try:
        server = listen(address)
    except OSError as error:
        sys.exit(f"{application}: cannot listen on {address[0]}:{address[1]}: {error.strerror}")
    print(f"{application}: listening on {address[0]}:{address[1] or server.server_address[1]}", flush=True)
    # The interval matters only to shutdown(), which nobody calls; a short one would wake an idle process.
    server.serve_forever(poll_interval=3600)
    sys.exit(0)


def _leave(signal_number: int, frame: object) -> NoReturn:
    os._exit(0)
