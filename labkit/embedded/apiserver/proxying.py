"""`pods/<p>/proxy`, `services/<s>/proxy`, `nodes/<n>/proxy`: plain HTTP requests into the cluster.

https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/#manually-constructing-apiserver-proxy-urls
The API server itself connects, so such a request carries no identity of the mesh: a STRICT port resets it.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from labkit.embedded.addresses import declared_port, listen_port
from labkit.embedded.apiserver.failures import StatusError, bad_request, not_found, unavailable
from labkit.embedded.apiserver.requests import Target
from labkit.embedded.apiserver.resources import NODES, PODS, Kind
from labkit.embedded.apiserver.storage import Storage
from labkit.embedded.apiserver.streams import Streams
from labkit.embedded.apiserver.webhooks import CallFailed, Resolver

Object = dict[str, Any]

# Headers that belong to one connection (RFC 9110, 7.6.1), and the client's credential, which is for us alone.
_NOT_PASSED = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "host", "authorization", "content-length"}
)
_SECONDS = 60.0


class Proxy:
    """HTTP requests on behalf of clients."""

    def __init__(self, storage: Storage, streams: Streams) -> None:
        self.storage = storage
        self.streams = streams
        self.resolver = Resolver(storage)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    async def handle(self, request: web.Request, kind: Kind, target: Target) -> web.StreamResponse:
        """Answer with what the pod, the Service's endpoint or the kubelet answers."""
        if kind.resource == NODES:
            return await self._pass(request, self.streams.session(), self.streams.kubelet_url(target.name), target)
        scheme, name, port = _split(target.name)
        host, number = (self._pod if kind.resource == PODS else self._service)(target.namespace, name, port)
        if self._session is None:
            # No verification for https, as in Kubernetes: the certificate is for a name that nobody here knows.
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connector = aiohttp.TCPConnector(ssl=context, limit=0, force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return await self._pass(request, self._session, f"{scheme}://{host}:{number}", target)

    def _pod(self, namespace: str, name: str, port: str) -> tuple[str, int]:
        record = self.storage.get(PODS, namespace, name)
        if record is None:
            raise not_found("pods", "", name)
        pod = record.load()
        declared = [p for c in pod["spec"].get("containers") or [] for p in c.get("ports") or []]
        if not port:
            number = declared[0]["containerPort"] if declared else 80
        elif port.isdigit():
            number = int(port)
        else:
            number = next((p["containerPort"] for p in declared if p.get("name") == port), 0)
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise bad_request(f"address not allowed: pod {name} has no address yet")
        if not 1 <= number <= 65535:
            raise bad_request(f'invalid pod request "{name}:{port}"')
        return address, listen_port(number)

    def _service(self, namespace: str, name: str, port: str) -> tuple[str, int]:
        record = self.storage.get("/services", namespace, name)
        if record is None:
            raise not_found("services", "", name)
        ports = (record.load().get("spec") or {}).get("ports") or []
        if not port and len(ports) == 1:
            number = ports[0]["port"]
        else:
            number = next((p["port"] for p in ports if port in (str(p["port"]), p.get("name"))), None)
        if number is None:
            raise unavailable(f'no service port "{port}" found for service "{name}"')
        try:
            return self.resolver.resolve(namespace, name, number)
        except CallFailed as error:
            raise unavailable(str(error)) from None

    async def _pass(
        self, request: web.Request, session: aiohttp.ClientSession, root: str, target: Target
    ) -> web.StreamResponse:
        path = request.rel_url.raw_path.split("/proxy", 1)[1] or "/"
        query = request.rel_url.raw_query_string  # as it came: decoded and encoded anew, a plus would be a space
        url = URL(f"{root}{path}{f'?{query}' if query else ''}", encoded=True)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _NOT_PASSED}
        try:
            answer = await session.request(
                request.method,
                url,
                headers=headers,
                data=await request.read() or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_SECONDS),
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unavailable(f"error trying to reach service: {_words(error)}") from None
        except ValueError as error:
            raise StatusError(400, "BadRequest", f"the request cannot be passed on: {error}") from None
        async with answer:
            passed = [(key, value) for key, value in answer.headers.items() if key.lower() not in _NOT_PASSED]
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for key, value in passed:
                response.headers.add(key, value)
            await response.prepare(request)
            with contextlib.suppress(ConnectionResetError, aiohttp.ClientError):
                async for block in answer.content.iter_any():
                    await response.write(block)
            await response.write_eof()
            return response


def _split(name: str) -> tuple[str, str, str]:
    """`[scheme:]name[:port]`"""
    parts = name.split(":")
    if len(parts) == 3:
        scheme = parts[0] or "http"
        if scheme not in ("http", "https"):
            raise bad_request(f'invalid proxy request "{name}"')
        return scheme, parts[1], parts[2]
    if len(parts) == 2:
        return "http", parts[0], parts[1]
    if len(parts) > 3:
        raise bad_request(f'invalid proxy request "{name}"')
    return "http", name, ""


def _cause(error: OSError) -> str:
    """The system's words: asyncio puts its own, with addresses, into the error."""
    plain = error.errno and error.errno > 0 and not isinstance(error, aiohttp.ClientSSLError)
    return os.strerror(error.errno or 0).lower() if plain else str(error)


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"dial tcp {error.host}:{declared_port(error.port or 0)}: connect: {_cause(error)}"
    if isinstance(error, aiohttp.ClientOSError):
        return f"read: {_cause(error)}"
    return str(error) or "EOF"
