"""One request to the API server, through the `kubernetes` package: TLS, credentials, streams and refusals.

Knows no kind. Every failure leaves here as one of labkit's errors; exceptions of libraries do not.
"""

from __future__ import annotations

import ipaddress
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from labkit.cluster import problems
from labkit.cluster.kinds import Obj
from labkit.errors import ClusterError, InputError

CONNECT_SECONDS = 5.0  # an API server farther than that is not one to learn on
READ_SECONDS = 30.0  # longer than any webhook may take (10 s by default, 30 s at most)


@dataclass(frozen=True)
class Answer:
    """A successful answer: the object, and the warnings that the API server or a webhook sent along."""

    obj: Obj
    warnings: tuple[str, ...] = ()


class Transport:
    """A connection pool to one API server, from one context of a kubeconfig. Safe to use from several threads."""

    def __init__(self, kubeconfig: Path | None, context: str | None, *, known_as: str) -> None:
        """`known_as` is what an error calls the cluster when nobody answers."""
        self._api = _api_client(kubeconfig, context)
        self.known_as = known_as
        self._lock = threading.Lock()

    @property
    def server(self) -> str:
        return str(self._api.configuration.host)

    @property
    def configuration(self) -> Any:
        """The `kubernetes` package's configuration, for the websocket client."""
        return self._api.configuration

    def close(self) -> None:
        self._api.close()

    def authorization(self) -> dict[str, str]:
        """The header that says who we are; empty with client certificates."""
        headers: dict[str, str] = {}
        with self._lock:  # an exec plugin renews the token here
            self._api.update_params_for_auth(headers, [], ["BearerToken"], "", "GET", None)
        return headers

    def request(
        self,
        method: str,
        path: str,
        *,
        action: str,
        params: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Answer:
        """One request, one object back. `action` says in words what is tried, for the error if it is refused."""
        response = self._send(method, path, params, body, content_type, (CONNECT_SECONDS, READ_SECONDS))
        data = self._body(response)
        if response.status >= 400:
            raise problems.from_status(response.status, _as_json(data), action=action)
        return Answer(_as_json(data) or {}, _warnings(response.headers))

    def fetch(self, path: str) -> Obj | None:
        """A GET whose 404 means None."""
        response = self._send("GET", path, None, None, "application/json", (CONNECT_SECONDS, READ_SECONDS))
        data = self._body(response)
        if response.status == 404:
            return None
        if response.status >= 400:
            raise problems.from_status(response.status, _as_json(data), action=f"Reading {path}")
        answer: Obj | None = _as_json(data)
        return answer

    def text(self, path: str, *, action: str, params: dict[str, str] | None = None) -> str:
        """A GET whose answer is text: logs, and what a pod answers through the proxy subresource."""
        response = self._send("GET", path, params, None, "application/json", (CONNECT_SECONDS, READ_SECONDS))
        data = self._body(response)
        if response.status >= 400:
            raise problems.from_status(response.status, _as_json(data), action=action)
        return bytes(data).decode("utf-8", "replace")

    def reply(self, path: str, params: dict[str, str] | None = None) -> tuple[int, str]:
        """A GET whatever comes of it: the status and the text, for a program that says itself what is wrong."""
        response = self._send("GET", path, params, None, "application/json", (CONNECT_SECONDS, READ_SECONDS))
        return int(response.status), bytes(self._body(response)).decode("utf-8", "replace")

    def lines(self, path: str, params: dict[str, str], *, until: float) -> Iterator[Obj]:
        """The events of a watch, until the monotonic time `until` or until the server closes the stream."""
        from urllib3.exceptions import HTTPError

        remaining = max(0.05, until - time.monotonic())
        try:
            response = self._send("GET", path, params, None, "application/json", (CONNECT_SECONDS, remaining))
        except ClusterError:
            if time.monotonic() >= until:  # the time was over before the stream had begun
                return
            raise
        if response.status >= 400:
            raise problems.from_status(response.status, _as_json(self._body(response)), action=f"Watching {path}")
        rest = b""
        try:
            for chunk in response.response.stream(amt=None):
                *complete, rest = (rest + chunk).split(b"\n")
                for line in complete:
                    if line.strip():
                        yield json.loads(line)
                if time.monotonic() > until:
                    return
        except HTTPError:  # the time is over, or the connection is: both end the stream
            return
        finally:
            response.response.close()

    def _body(self, response: Any) -> bytes:
        from urllib3.exceptions import HTTPError

        try:
            return bytes(response.read() or b"")
        except (HTTPError, OSError) as error:
            raise problems.cut_off(self.server, self.known_as, error) from error

    def _send(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None,
        body: Any,
        content_type: str,
        timeout: tuple[float, float],
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError, ProtocolError

        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        query = list((params or {}).items())
        # A kept-alive connection may have died with a restarted API server; that shows on first use.
        for attempts_left in (1, 0):
            try:
                serialized = self._api.param_serialize(
                    method, path, query_params=query, header_params=headers, body=body, auth_settings=["BearerToken"]
                )
                return self._api.call_api(*serialized, _request_timeout=timeout)
            except ProtocolError as error:
                if not attempts_left:
                    raise problems.unreachable(self.server, self.known_as, error) from error
            except ApiException as error:  # without a status, as there was no answer: the package's word for SSLError
                raise problems.not_trusted(self.server, self.known_as, error.reason) from error
            except (HTTPError, OSError) as error:
                raise problems.unreachable(self.server, self.known_as, error) from error
        raise AssertionError("the loop returns or raises")


def _api_client(kubeconfig: Path | None, context: str | None) -> Any:
    import yaml
    from kubernetes import config
    from kubernetes.client import Configuration
    from kubernetes.config.config_exception import ConfigException

    configuration = Configuration()
    try:
        client = config.new_client_from_config(
            config_file=str(kubeconfig) if kubeconfig else None,
            context=context,
            persist_config=False,
            client_configuration=configuration,
        )
    except (ConfigException, yaml.YAMLError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"The kubeconfig{f' {kubeconfig}' if kubeconfig else ''} cannot be used: {error}",
            meaning="labkit reads it as kubectl does: from --kubeconfig, $KUBECONFIG or ~/.kube/config.",
            next_step="See what you have with 'kubectl config get-contexts', or use labkit.open('embedded').",
            kubeconfig=str(kubeconfig or ""),
            context=context,
        ) from error
    # urllib3 logs a warning for each retry, which would land in the notebook; _send retries where it is safe.
    configuration.retries = False
    if _is_loopback(configuration.host):
        configuration.proxy = None
    client.close()
    from kubernetes.client import ApiClient

    client = ApiClient(configuration)
    client.user_agent = "labkit"
    return client


def _is_loopback(url: str) -> bool:
    host = urlparse(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _as_json(data: bytes | None) -> Any:
    try:
        return json.loads(data or b"null")
    except ValueError:
        return None


def _warnings(headers: Any) -> tuple[str, ...]:
    # RFC 7234, section 5.5: 299 - "text"
    raw = headers.getlist("Warning") if hasattr(headers, "getlist") else []
    return tuple(item.split('"', 1)[-1].rsplit('"', 1)[0].replace('\\"', '"') for item in raw)
