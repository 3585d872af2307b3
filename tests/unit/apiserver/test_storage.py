"""The store: versions, history, and what is there after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.embedded.apiserver import storage as storage_module
from labkit.embedded.apiserver.failures import StatusError
from labkit.embedded.apiserver.storage import Change, Storage


def _obj(name: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "n", "uid": f"uid-{name}"}
    return {"kind": "ConfigMap", "metadata": metadata, "data": data, "apiVersion": "v1"}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "objects.sqlite")


def test_every_write_gets_the_next_version(storage: Storage) -> None:
    first = storage.put("/configmaps", _obj("a"))
    second = storage.put("/secrets", _obj("b"))
    assert second.version == first.version + 1
    assert storage.remove("/configmaps", "n", "a").version == second.version + 1


def test_a_body_begins_with_its_version_and_can_be_shown_in_another(storage: Storage) -> None:
    record = storage.put("/configmaps", _obj("a"))
    assert record.body.startswith(b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{')
    assert record.rendered("x/v2").startswith(b'{"apiVersion":"x/v2","kind":"ConfigMap",')
    assert record.rendered("v1") is record.body


def test_what_was_written_is_there_after_a_restart(tmp_path: Path, storage: Storage) -> None:
    storage.put("/configmaps", _obj("a", x="1"))
    storage.put("/configmaps", _obj("b"))
    storage.remove("/configmaps", "n", "b")
    again = Storage(tmp_path / "objects.sqlite")  # the first was not closed, as after kill -9
    assert [record.name for record in again.records("/configmaps")] == ["a"]
    assert again.version == storage.version


def test_listeners_hear_of_their_resource_until_they_stop(storage: Storage) -> None:
    heard: list[Change] = []
    stop = storage.listen("/configmaps", heard.append)
    storage.put("/configmaps", _obj("a"))
    storage.put("/secrets", _obj("a"))
    storage.put("/configmaps", _obj("a", x="2"))
    stop()
    storage.remove("/configmaps", "n", "a")
    assert [(c.before is None, c.after is None) for c in heard] == [(True, False), (False, False)]


def test_history_reaches_back_only_so_far(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "HISTORY_EVENTS", 3)
    start = storage.version
    for i in range(5):
        storage.put("/configmaps", _obj("a", x=str(i)))
    with pytest.raises(StatusError) as caught:
        storage.since("/configmaps", start)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    assert len(list(storage.since("/configmaps", storage.version - 3))) == 3


def test_a_version_from_before_a_restart_is_too_old(tmp_path: Path, storage: Storage) -> None:
    version = storage.put("/configmaps", _obj("a")).version
    storage.put("/configmaps", _obj("b"))
    again = Storage(tmp_path / "objects.sqlite")
    with pytest.raises(StatusError):
        again.since("/configmaps", version)
    assert list(again.since("/configmaps", again.version)) == []
