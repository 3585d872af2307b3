"""Which kinds a cluster serves: asked once, and again when something is missing."""

from __future__ import annotations

from typing import Any

from labkit.cluster.kinds import DEPLOYMENT, NODE, PEER_AUTHENTICATION, POD, Discovery

PA = {"name": "peerauthentications", "kind": "PeerAuthentication", "namespaced": True, "shortNames": ["pa"],
      "singularName": "peerauthentication"}  # fmt: skip


class FakeApi:
    """Answers discovery paths from a dict, and counts the questions."""

    def __init__(self) -> None:
        self.served: dict[str, Any] = {"/apis": {"groups": []}}
        self.asked: list[str] = []

    def fetch(self, path: str) -> Any:
        self.asked.append(path)
        return self.served.get(path)

    def install(self) -> None:
        self.served["/apis"] = {"groups": [{"preferredVersion": {"groupVersion": "security.istio.io/v1"}}]}
        self.served["/apis/security.istio.io/v1"] = {"resources": [PA, {**PA, "name": "peerauthentications/status"}]}


def test_kinds_that_every_cluster_serves_need_no_question() -> None:
    api = FakeApi()
    assert Discovery(api.fetch).find("apps/v1", "Deployment") == DEPLOYMENT
    assert api.asked == []


def test_a_kind_that_is_installed_later_is_found() -> None:
    api = FakeApi()
    discovery = Discovery(api.fetch)
    assert discovery.find("security.istio.io/v1", "PeerAuthentication") is None
    api.install()
    assert discovery.find("security.istio.io/v1", "PeerAuthentication") == PEER_AUTHENTICATION


def test_a_known_kind_is_asked_for_once() -> None:
    api = FakeApi()
    api.install()
    discovery = Discovery(api.fetch)
    for _ in range(3):
        discovery.find("security.istio.io/v1", "PeerAuthentication")
    assert len(api.asked) == 1


def test_what_is_forgotten_is_asked_for_again() -> None:
    api = FakeApi()
    api.install()
    discovery = Discovery(api.fetch)
    discovery.find("security.istio.io/v1", "PeerAuthentication")
    api.served.clear()
    discovery.forget("security.istio.io/v1")
    assert discovery.find("security.istio.io/v1", "PeerAuthentication") is None


def test_a_kind_is_found_by_the_words_that_kubectl_takes() -> None:
    api = FakeApi()
    api.install()
    discovery = Discovery(api.fetch)
    for word in ("pa", "peerauthentication", "PeerAuthentications", "PeerAuthentication"):
        assert discovery.find_by_name(word) == PEER_AUTHENTICATION, word
    assert discovery.find_by_name("pod") == POD
    assert discovery.find_by_name("nosuch") is None


def test_paths_follow_group_and_scope() -> None:
    assert POD.path("foo", "x", "exec") == "/api/v1/namespaces/foo/pods/x/exec"
    assert DEPLOYMENT.path("foo") == "/apis/apps/v1/namespaces/foo/deployments"
    assert NODE.path("ignored", "n") == "/api/v1/nodes/n"
