"""Requests as any HTTP client would send them, and small manifests. No client library stands between test and API."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes.config
import urllib3

Object = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@dataclass
class Answer:
    """What the API answered."""

    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def message(self) -> str:
        return str(self.json.get("message", ""))

    def expect(self, status: int, reason: str = "") -> Any:
        """The body, after looking at the code (and the reason of a Status)."""
        assert self.status == status, f"{self.status} instead of {status}: {self.raw[:2000]!r}"
        if reason:
            assert self.json["kind"] == "Status"
            assert self.json["reason"] == reason, self.json
            assert self.json["code"] == status
        return self.json if self.raw[:1] in (b"{", b"[") else self.raw


class Api:
    """One cluster."""

    def __init__(self, kubeconfig: Path, *, anonymous: bool = False) -> None:
        self.kubeconfig = kubeconfig
        self.client = kubernetes.config.new_client_from_config(str(kubeconfig))
        config = self.client.configuration
        self.server = config.host
        self.pool = urllib3.PoolManager(
            ca_certs=config.ssl_ca_cert,
            cert_file=None if anonymous else config.cert_file,
            key_file=None if anonymous else config.key_file,
            retries=False,
            maxsize=32,
        )
        token = config.api_key.get("authorization") or config.api_key.get("BearerToken")
        self.headers = {"Authorization": token} if token and not anonymous else {}

    def request(self, method: str, path: str, body: Any = None, *, headers: Any = None) -> Answer:
        sent = {**self.headers, **(headers or {})}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        answer = self.pool.request(method, self.server + path, body=data, headers=sent, timeout=30)
        return Answer(answer.status, answer.headers, answer.data)

    def get(self, path: str, **query: Any) -> Answer:
        return self.request("GET", _with_query(path, query))

    def post(self, path: str, body: Any, **query: Any) -> Answer:
        return self.request("POST", _with_query(path, query), body)

    def put(self, path: str, body: Any, **query: Any) -> Answer:
        return self.request("PUT", _with_query(path, query), body)

    def patch(self, path: str, body: Any, kind: str = MERGE_PATCH, **query: Any) -> Answer:
        return self.request("PATCH", _with_query(path, query), body, headers={"Content-Type": kind})

    def apply(self, path: str, body: Any, manager: str, *, force: bool = False) -> Answer:
        return self.patch(path, body, APPLY_PATCH, fieldManager=manager, force=str(force).lower())

    def delete(self, path: str, body: Any = None, **query: Any) -> Answer:
        return self.request("DELETE", _with_query(path, query), body)

    def table(self, path: str, **query: Any) -> Any:
        """The rows as dicts from column to cell."""
        answer = self.request("GET", _with_query(path, query), headers={"Accept": TABLE}).expect(200)
        assert answer["kind"] == "Table"
        columns = [column["name"] for column in answer["columnDefinitions"]]
        return [dict(zip(columns, row["cells"], strict=True)) for row in answer["rows"]]

    def watch(self, path: str, *, seconds: int = 5, **query: Any) -> Iterator[tuple[str, Object]]:
        """Events until the server ends the watch after `seconds`."""
        url = self.server + _with_query(path, {"watch": "1", "timeoutSeconds": seconds, **query})
        answer = self.pool.request("GET", url, headers=self.headers, preload_content=False, timeout=seconds + 20)
        assert answer.status == 200, answer.read()
        buffer = b""
        try:
            for block in answer.stream(65536, decode_content=True):
                buffer += block
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]
        finally:
            answer.close()


def _with_query(path: str, query: Any) -> str:
    from urllib.parse import urlencode

    if not query:
        return path
    return path + ("&" if "?" in path else "?") + urlencode(query, doseq=True)


class Watcher:
    """A watch in a thread, and the events it saw."""

    def __init__(self, api: Api, path: str, **query: Any) -> None:
        self.events: list[tuple[str, Object]] = []
        self._thread = threading.Thread(target=self._run, args=(api, path, query), daemon=True)
        self._thread.start()

    def _run(self, api: Api, path: str, query: Any) -> None:
        with contextlib.suppress(urllib3.exceptions.HTTPError):  # the cluster went down before the watch ended
            for event in api.watch(path, **query):
                self.events.append(event)

    def wait_for(self, count: int, seconds: float = 5.0) -> list[tuple[str, Object]]:
        wait_until(lambda: len(self.events) >= count, seconds)
        return self.events[:count]


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true value of `condition`."""
    end = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, f"not true after {seconds} s: {condition}"
        time.sleep(0.01)


def configmap(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


# An image that the embedded catalogue and every public registry have.
IMAGE = "curlimages/curl:8.10.1"


def pod(name: str, *command: str, **labels: str) -> Object:
    """A pod that sleeps, or runs a command."""
    container = {"name": "main", "image": IMAGE, "command": list(command) or ["sleep", "600"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def deployment(name: str, replicas: int = 1, **labels: str) -> Object:
    labels = labels or {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod(name)["spec"]}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def crd(group: str, schema: Object | None = None, *, versions: tuple[str, ...] = ("v1",), **version: Any) -> Object:
    """A definition of `widgets`."""
    properties = {"spec": schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    if "subresources" in version:
        properties["status"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = [
        {
            "name": name,
            "served": True,
            "storage": name == versions[0],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
            **version,
        }
        for name in versions
    ]
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": served},
    }
