"""Calling a webhook: finding its endpoint, trusting its certificate, one request and one answer.

A webhook behind a Service is called at a ready endpoint of that Service, under the name `<service>.<namespace>.svc`,
which its certificate must bear and `caBundle` must have signed.
"""

from __future__ import annotations

import base64
import binascii
import json
import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp

from labkit.embedded.addresses import listen_port
from labkit.embedded.apiserver.resources import SERVICES
from labkit.embedded.apiserver.storage import Record, Storage, encode

Object = dict[str, Any]

ENDPOINTSLICES = "discovery.k8s.io/endpointslices"
ANSWER_LIMIT = 8 * 1024 * 1024  # a webhook may not fill our memory


class CallFailed(Exception):
    """The webhook could not be asked, or its answer not be read."""


@dataclass(frozen=True)
class Address:
    """Where to connect, and the name that the certificate must have."""

    url: str
    server_name: str | None
    shown: str
    """The URL as messages show it."""


class Resolver:
    """From a Service to one of its ready endpoints."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def resolve(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        """Address and port on the wire of a ready endpoint. Raises CallFailed."""
        record = self.storage.get(SERVICES, namespace, name)
        if record is None:
            raise CallFailed(f'service "{name}" not found')
        ports = (record.load().get("spec") or {}).get("ports") or []
        port_name = next((p.get("name") or "" for p in ports if p.get("port") == port), None)
        if port_name is None:
            raise CallFailed(f'no service port {port} found for service "{name}"')
        for found in self._slices(namespace, name):
            if endpoint := _ready_endpoint(found, port_name):
                return endpoint
        raise CallFailed(f'no endpoints available for service "{name}"')

    def _slices(self, namespace: str, name: str) -> list[Record]:
        slices = self.storage.records(ENDPOINTSLICES, namespace)
        return [record for record in slices if record.labels.get("kubernetes.io/service-name") == name]


def _ready_endpoint(record: Record, port_name: str) -> tuple[str, int] | None:
    found = record.load()
    number = next((p.get("port") for p in found.get("ports") or [] if (p.get("name") or "") == port_name), None)
    if number is None:
        return None
    for endpoint in found.get("endpoints") or []:
        if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses"):
            return endpoint["addresses"][0], listen_port(number)
    return None


class WebhookClient:
    """Connections to webhooks, kept open between calls."""

    def __init__(self, storage: Storage) -> None:
        self.resolver = Resolver(storage)
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    async def call(self, hook: Object, review: Object) -> Object:
        """The AdmissionReview that the webhook answers. Raises CallFailed."""
        seconds = hook.get("timeoutSeconds") or 10
        config = hook.get("clientConfig") or {}
        address = self._address(config, seconds)
        context = self._context(config.get("caBundle") or "")
        try:
            return await self._post(address, context, encode(review), seconds)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            pass  # a connection that was kept open and whose other end has since gone: once more, on a new one
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CallFailed(_told(address, error)) from None
        try:
            return await self._post(address, context, encode(review), seconds)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise CallFailed(_told(address, error)) from None

    def _address(self, config: Object, seconds: int) -> Address:
        service = config.get("service")
        if not service:
            return Address(str(config.get("url")), None, f"{config.get('url')}?timeout={seconds}s")
        namespace, name, port = service.get("namespace", ""), service.get("name", ""), service.get("port") or 443
        path = service.get("path") or ""
        shown = f"https://{name}.{namespace}.svc:{port}{path}?timeout={seconds}s"
        try:
            host, number = self.resolver.resolve(namespace, name, port)
        except CallFailed as error:
            raise CallFailed(f'failed to call webhook: Post "{shown}": {error}') from None
        return Address(f"https://{host}:{number}{path}", f"{name}.{namespace}.svc", shown)

    def _context(self, bundle: str) -> ssl.SSLContext:
        if bundle not in self._contexts:
            try:
                pem = base64.b64decode(bundle).decode()
                self._contexts[bundle] = ssl.create_default_context(cadata=pem or None)
            except (binascii.Error, ValueError, ssl.SSLError) as error:
                raise CallFailed(f"failed to call webhook: unable to load root certificates: {error}") from None
        return self._contexts[bundle]

    async def _post(self, address: Address, context: ssl.SSLContext, body: bytes, seconds: int) -> Object:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(keepalive_timeout=60))
        async with self._session.post(
            address.url,
            data=body,
            params={"timeout": f"{seconds}s"},
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            ssl=context,
            server_hostname=address.server_name,
            timeout=aiohttp.ClientTimeout(total=seconds),
            allow_redirects=False,
        ) as response:
            raw = b""
            async for block in response.content.iter_any():
                raw += block
                if len(raw) > ANSWER_LIMIT:
                    raise ValueError(f"the answer is longer than {ANSWER_LIMIT} bytes")
            if response.status != 200:
                raise ValueError(f"status code {response.status}: {raw[:200].decode(errors='replace').strip()}")
            answer = json.loads(raw)
            if not isinstance(answer, dict):
                raise ValueError("the answer is not an AdmissionReview")
            return answer


def _told(address: Address, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        why = "context deadline exceeded"
    elif isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = f"tls: failed to verify certificate: x509: {error.certificate_error}"
    elif isinstance(error, aiohttp.ClientConnectorError):
        why = f"dial tcp {error.host}:{error.port}: connect: {str(error.strerror or error).lower()}"
    else:
        why = str(error) or type(error).__name__
    return f'failed to call webhook: Post "{address.shown}": {why}'
