"""How the lessons' applications call each other: plain HTTP, with the reason in words when it does not work.

Whether a call is encrypted is the mesh's business; the programs never know. What they do is what every application in
a mesh has to: hand the trace's headers on, so that the calls of one request can be told to belong together.
https://istio.io/latest/docs/tasks/observability/distributed-tracing/overview/#trace-context-propagation
"""

from __future__ import annotations

import errno
import http.client
from email.message import Message
from urllib.parse import urlsplit

from labkit.apps.webapp import HttpError

CALL_SECONDS = 5.0
HANDED_ON = (
    "x-request-id",
    "traceparent",
    "tracestate",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "end-user",
)


def call(url: str, who: str, headers: Message | None = None, *, timeout: float = CALL_SECONDS) -> bytes:
    """The body of a GET. Raises HttpError 502 or 504, which says who could not be reached and why."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    handed_on = {name: value for name in HANDED_ON if headers is not None and (value := headers.get(name))}
    try:
        connection.request("GET", parts.path or "/", headers=handed_on)
        response = connection.getresponse()
        body = response.read()
    except TimeoutError:
        raise HttpError(504, f"{who} did not answer in time.", detail="ETIMEDOUT") from None
    except (OSError, http.client.HTTPException) as error:
        raise HttpError(502, f"{who} cannot be reached.", detail=reason(error)) from None
    finally:
        connection.close()
    if response.status != 200:
        # A proxy answers in plain text: "upstream connect error ...", "RBAC: access denied".
        words = body.decode("utf-8", "replace").strip().splitlines()[:1]
        raise HttpError(502, f"{who} answered {response.status}.", detail="".join(words)[:200])
    return body


def reason(error: Exception) -> str:
    """Why a connection broke, as a system call names it: `ECONNRESET: Connection reset by peer`."""
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    number = getattr(error, "errno", None)
    name = errno.errorcode.get(number, "") if number else ""
    words = getattr(error, "strerror", "") or str(error)
    return f"{name}: {words}" if name else words
