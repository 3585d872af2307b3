"""One suite against the Kubernetes API: the embedded cluster by default, any other with `--context NAME`.

    pytest tests/contract                      an embedded cluster of its own
    pytest tests/contract --context kind-kind  a context of your kubeconfig

No test here may assume what a real cluster does not promise. Each test has a namespace of its own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION

from tests.contract.world import Api


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--context", default=None, help="a context of your kubeconfig, instead of an embedded cluster")


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of the cluster under test."""
    if context := request.config.getoption("--context", default=None):
        path = tmp_path_factory.mktemp("kubeconfig") / "config"
        path.write_text(yaml.safe_dump(one_context(context)))
        yield path
        return
    from labkit.embedded import lifecycle

    yield lifecycle.up("contract")
    lifecycle.down("contract")


def one_context(name: str) -> dict[str, Any]:
    """The kubeconfig that holds a context, with that context as the current one and its files by absolute paths."""
    places = [Path(place) for place in KUBE_CONFIG_DEFAULT_LOCATION.split(os.pathsep) if place]
    for place in (one.expanduser() for one in places):
        config = yaml.safe_load(place.read_text()) if place.exists() else {}
        if name in {one["name"] for one in config.get("contexts") or ()}:
            for entry in (*(config.get("clusters") or ()), *(config.get("users") or ())):
                inner = entry.get("cluster") or entry.get("user") or {}
                for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
                    if key in inner:
                        inner[key] = str((place.parent / inner[key]).resolve())
            return {**config, "current-context": name}
    raise pytest.UsageError(f"There is no context {name!r} in {', '.join(map(str, places))}.")


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Api:
    """Plain requests, plain answers."""
    return Api(kubeconfig)


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"contract-{uuid.uuid4().hex[:10]}"
    api.post("/api/v1/namespaces", {"metadata": {"name": name}}).expect(201)
    yield name
    api.delete(f"/api/v1/namespaces/{name}")
