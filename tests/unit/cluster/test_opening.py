"""Opening: a kubeconfig that leads nowhere is one clear error, and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit.cluster import open_cluster
from labkit.errors import ClusterError, InputError

CONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "there",
    "contexts": [{"name": "there", "context": {"cluster": "c", "user": "u"}}],
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": True}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
}


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(json.dumps(CONFIG))
    return path


def test_an_api_that_does_not_answer_is_named_with_its_address(kubeconfig: Path) -> None:
    with pytest.raises(ClusterError) as caught:
        open_cluster("there", kubeconfig=kubeconfig, narrate=lambda _: None)
    assert "https://127.0.0.1:1" in caught.value.what
    assert "Connection refused" in caught.value.meaning
    assert caught.value.next_step


def test_an_unknown_context_lists_the_known_ones(kubeconfig: Path) -> None:
    with pytest.raises(InputError, match="no context 'elsewhere'") as caught:
        open_cluster("elsewhere", kubeconfig=kubeconfig, narrate=lambda _: None)
    assert "'there'" in caught.value.meaning


@pytest.mark.parametrize("text", ["", "not: [valid", "just words", "{}"], ids=["empty", "broken", "words", "no keys"])
def test_a_file_that_is_no_kubeconfig_is_one_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(InputError):
        open_cluster("there", kubeconfig=path, narrate=lambda _: None)


def test_a_kubeconfig_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_cluster("there", kubeconfig=tmp_path / "nowhere", narrate=lambda _: None)
    assert "labkit.open('embedded')" in caught.value.next_step


@pytest.mark.parametrize("name", ["", None, 7])
def test_what_names_no_cluster_is_refused(name: object) -> None:
    with pytest.raises(InputError, match="names no cluster"):
        open_cluster(name)  # type: ignore[arg-type]
