"""Reading the body of a request, from clients that are slow, break off, or compress wrongly."""

from __future__ import annotations

import asyncio

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

from labkit.embedded.apiserver.failures import bad_request, timed_out

BODY_SECONDS = 60.0  # kube-apiserver's --request-timeout


async def read_body(request: web.Request) -> bytes:
    """The whole body. Raises 400 when it cannot be read, 504 when it does not come, 413 when it is too long."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise timed_out(f"the body did not arrive within {BODY_SECONDS:.0f}s") from None
    except (ClientPayloadError, web.RequestPayloadError, HttpProcessingError) as error:
        raise bad_request(f"the body of the request cannot be read: {type(error).__name__}") from None
