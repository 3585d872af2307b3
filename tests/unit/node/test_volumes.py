from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from labkit.embedded.node.environment import ContainerConfigError, PodFacts, Reference
from labkit.embedded.node.volumes import below, prepare_volumes, translate_path, write_files

OBJECTS = {
    Reference("ConfigMap", "settings"): {"data": {"a": "1", "b": "2"}},
    Reference("Secret", "key"): {"data": {"token": base64.b64encode(b"\xff\x00").decode()}},
}


async def fetch(reference: Reference) -> Any:
    return OBJECTS.get(reference)


async def token(projection: Any) -> str | None:
    return f"token for {projection.get('audience')}"


async def prepare(tmp_path: Path, volume: dict[str, Any], **mount: Any) -> Path:
    mounts = [{"name": "v", "mountPath": "/data", **mount}]
    pod = {
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "x"}},
        "spec": {"volumes": [{"name": "v", **volume}], "containers": [{"name": "c", "volumeMounts": mounts}]},
    }
    facts = PodFacts(pod, "127.64.1.1", "127.64.0.1", "node")
    await prepare_volumes(pod, tmp_path / "pod", tmp_path / "host", facts, fetch, token)
    return tmp_path / "pod" / "root" / "data"


def content(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("volume", "files"),
    [
        pytest.param({"emptyDir": {}}, {}, id="empty-dir"),
        pytest.param({"configMap": {"name": "settings"}}, {"a": b"1", "b": b"2"}, id="configmap"),
        pytest.param(
            {"configMap": {"name": "settings", "items": [{"key": "a", "path": "deep/x"}]}}, {"deep/x": b"1"}, id="items"
        ),
        pytest.param({"secret": {"secretName": "key"}}, {"token": b"\xff\x00"}, id="secret"),
        pytest.param({"secret": {"secretName": "none", "optional": True}}, {}, id="optional-secret"),
        pytest.param(
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"labels": b'app="x"'},
            id="downward-api",
        ),
        pytest.param(
            {
                "projected": {
                    "sources": [
                        {"configMap": {"name": "settings", "items": [{"key": "b", "path": "b"}]}},
                        {"serviceAccountToken": {"path": "token", "audience": "istio-ca"}},
                    ]
                }
            },
            {"b": b"2", "token": b"token for istio-ca"},
            id="projected",
        ),
    ],
)
async def test_files_of_a_volume(tmp_path: Path, volume: dict[str, Any], files: dict[str, bytes]):
    assert content((await prepare(tmp_path, volume)).resolve()) == files


@pytest.mark.parametrize(
    "volume",
    [
        pytest.param({"configMap": {"name": "none"}}, id="no-configmap"),
        pytest.param({"secret": {"secretName": "none"}}, id="no-secret"),
        pytest.param({"configMap": {"name": "settings", "items": [{"key": "z", "path": "z"}]}}, id="no-key"),
    ],
)
async def test_a_missing_object_fails_the_mount(tmp_path: Path, volume: dict[str, Any]):
    with pytest.raises(ContainerConfigError) as raised:
        await prepare(tmp_path, volume)
    assert raised.value.reason == "FailedMount"


async def test_a_host_path_stays_on_the_nodes_own_file_system(tmp_path: Path):
    link = await prepare(tmp_path, {"hostPath": {"path": "/var/../../run/x"}})
    assert link.resolve() == tmp_path / "host" / "run" / "x"


async def test_a_sub_path_is_one_directory_of_the_volume(tmp_path: Path):
    link = await prepare(tmp_path, {"emptyDir": {}}, subPath="part")
    assert link.resolve() == tmp_path / "pod" / "volumes" / "v" / "part"


async def test_preparing_again_changes_nothing(tmp_path: Path):
    volume = {"configMap": {"name": "settings"}}
    assert content((await prepare(tmp_path, volume)).resolve()) == content((await prepare(tmp_path, volume)).resolve())


def test_files_that_are_not_wanted_any_more_go(tmp_path: Path):
    write_files(tmp_path, {"a": b"1", "b/c": b"2"})
    write_files(tmp_path, {"a": b"3"})
    assert content(tmp_path) == {"a": b"3"}


@pytest.mark.parametrize(
    ("path", "inside"),
    [("/etc/x", "etc/x"), ("etc", "etc"), ("../../etc", "etc"), ("/a/../../b", "b"), ("/", "")],
)
def test_no_path_leads_out_of_the_root(tmp_path: Path, path: str, inside: str):
    assert below(tmp_path, path) == tmp_path / inside


CONTAINER = {"volumeMounts": [{"name": "v", "mountPath": "/etc/app"}]}


@pytest.mark.parametrize(
    ("word", "translated"),
    [
        ("/etc/app", "/root/etc/app"),
        ("/etc/app/a.yaml", "/root/etc/app/a.yaml"),
        ("--config=/etc/app/a.yaml", "--config=/root/etc/app/a.yaml"),
        ("/etc/application", "/etc/application"),
        ("a=/etc/app", "a=/etc/app"),
        ("echo /etc/app", "echo /etc/app"),
    ],
)
def test_paths_below_a_mount_are_translated_and_others_not(word: str, translated: str):
    assert translate_path(word, CONTAINER, Path("/root")) == translated
