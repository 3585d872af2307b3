"""One suite against the Kubernetes API: the embedded cluster by default, any other with `--context NAME`.

    pytest tests/contract                      an embedded cluster of its own
    pytest tests/contract --context kind-kind  a context of your kubeconfig

No test here may assume what a real cluster does not promise. Each test has a namespace of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.world import Api


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--context", default=None, help="a context of your kubeconfig, instead of an embedded cluster")


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of the cluster under test."""
    if context := request.config.getoption("--context", default=None):
        import kubernetes.config
        import yaml

        merged = kubernetes.config.kube_config.KubeConfigMerger(kubernetes.config.KUBE_CONFIG_DEFAULT_LOCATION)
        config = merged.config.value | {"current-context": context}
        path = tmp_path_factory.mktemp("kubeconfig") / "config"
        path.write_text(yaml.safe_dump(config))
        yield path
        return
    from labkit.embedded import lifecycle

    yield lifecycle.up("contract")
    lifecycle.down("contract")


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
