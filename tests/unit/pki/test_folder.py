"""A folder of certificates and keys: whose it is, and what its names may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.errors import InputError
from labkit.pki.folder import Folder, folder_of


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "minted")
    folder.save("shop.example.com", b"certificate", b"key")
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert folder.key("shop.example.com").stat().st_mode & 0o777 == 0o600
    assert folder.files == ["shop.example.com.crt", "shop.example.com.key"]


def test_a_file_that_anybody_may_read_is_replaced_and_not_reused(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.key("ca").write_bytes(b"old")
    folder.key("ca").chmod(0o644)
    folder.save("ca", b"certificate", b"new")
    assert folder.key("ca").read_bytes() == b"new"
    assert folder.key("ca").stat().st_mode & 0o777 == 0o600


def test_removing_leaves_nothing_and_says_what_there_was(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "minted")
    assert folder.remove() == [] == folder.files
    folder.save("ca", b"", b"")
    assert folder.has("ca")
    assert folder.remove() == ["ca.crt", "ca.key"]
    assert not folder.path.exists() and not folder.has("ca")


@pytest.mark.parametrize("name", ["", "../ca", "a/b", ".hidden", "UPPER", "a b", "-x"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        Folder(tmp_path).save(name, b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_a_wildcard_is_a_file_without_a_star(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.save("*.example.com", b"", b"")
    assert folder.files == ["wildcard.example.com.crt", "wildcard.example.com.key"]


def test_each_cluster_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    one, other = folder_of("embedded:one"), folder_of("arn:aws:eks/two")
    assert one.path.parent == other.path.parent == tmp_path / "minted"
    assert one.path != other.path
