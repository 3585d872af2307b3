"""The chat application's frontend: a page with a chat box, and POST /chat, which it passes on to the backend.

It calls `$BACKEND_URL` (http://chatbackend-service:5000/chat) in plain HTTP. Whether that hop is encrypted is the
mesh's business, which is the point of the lessons.
"""

from __future__ import annotations

import http.client
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labkit.apps.webapp import HttpError, WebHandler, serve

BACKEND_URL = "http://chatbackend-service:5000/chat"
# Longer than the backend waits for its model, so that the backend's own explanation arrives first.
BACKEND_SECONDS = 65.0
PAGE = Path(__file__).with_name("chatfrontend.html")


def ask_backend(question: bytes, url: str) -> tuple[int, bytes]:
    """(status, body) of the backend. Raises HttpError 502 or 504 when there is none."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise HttpError(502, "BACKEND_URL is not an http address.")
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=BACKEND_SECONDS)
    try:
        connection.request("POST", parts.path or "/", question, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    except TimeoutError:
        raise HttpError(504, "The backend did not answer in time.") from None
    except (OSError, http.client.HTTPException) as error:
        raise HttpError(
            502, "The backend cannot be reached.", detail=getattr(error, "strerror", "") or str(error)
        ) from None
    finally:
        connection.close()


def checked_answer(status: int, body: bytes) -> bytes:
    """The backend's answer as it is, or an HttpError with the backend's or its proxy's own words."""
    try:
        answer: Any = json.loads(body)
    except ValueError:
        # A proxy answers in plain text: "upstream connect error ...", "RBAC: access denied".
        words = body.decode("utf-8", "replace").strip().splitlines()[:1]
        raise HttpError(502, f"The backend answered {status}.", detail="".join(words)[:200]) from None
    if status == 200 and isinstance(answer, dict) and "reply" in answer:
        return body
    message = answer.get("error") if isinstance(answer, dict) else None
    detail = answer.get("detail", "") if isinstance(answer, dict) else ""
    raise HttpError(status if status >= 400 else 502, message or f"The backend answered {status}.", detail=str(detail))


class ChatFrontend(WebHandler):
    """The routes of the frontend."""

    application = "chatfrontend"

    def page(self) -> tuple[str, bytes]:
        return "text/html; charset=utf-8", PAGE.read_bytes()

    def chat(self) -> tuple[str, bytes]:
        """Pass one message on to the backend."""
        question = json.dumps(self.read_json()).encode()
        status, body = ask_backend(question, os.environ.get("BACKEND_URL", BACKEND_URL))
        return "application/json", checked_answer(status, body)

    def healthz(self) -> tuple[str, bytes]:
        """Ready as soon as it listens; a missing backend is shown on the page instead."""
        return "application/json", b'{"status": "ok"}'

    routes = {("GET", "/"): page, ("POST", "/chat"): chat, ("GET", "/healthz"): healthz}  # noqa: RUF012


if __name__ == "__main__":
    serve(ChatFrontend, default_port=80)
