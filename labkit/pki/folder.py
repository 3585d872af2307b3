"""A folder of certificates and keys, as a person at a shell has one: `NAME.crt` and `NAME.key`.

Keys are files of their owner alone (0600, in a folder with 0700). Nothing here ever prints one.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import InputError

_NAME = re.compile(r"[a-z0-9*]([a-z0-9.*-]*[a-z0-9])?")


@dataclass(frozen=True)
class Folder:
    """Where a lab keeps what it mints. It is made when the first file is written."""

    path: Path

    def save(self, name: str, certificate: bytes, key: bytes) -> None:
        """Write a certificate (with its chain) and its key; what was there under that name is replaced."""
        self._check(name)
        self._write(self.certificate(name), certificate)
        self._write(self.key(name), key)

    def save_key(self, name: str, key: bytes) -> None:
        """Write a key that has no certificate."""
        self._check(name)
        self._write(self.key(name), key)

    def certificate(self, name: str) -> Path:
        """The file of a certificate."""
        return self.path / f"{_on_disk(name)}.crt"

    def key(self, name: str) -> Path:
        """The file of a key."""
        return self.path / f"{_on_disk(name)}.key"

    def has(self, name: str) -> bool:
        """Whether both files are there."""
        return self.certificate(name).is_file() and self.key(name).is_file()

    @property
    def files(self) -> list[str]:
        """The names of all files."""
        return sorted(one.name for one in self.path.iterdir()) if self.path.is_dir() else []

    def remove(self) -> list[str]:
        """Remove the folder; says which files were in it."""
        gone = self.files
        shutil.rmtree(self.path, ignore_errors=True)
        return gone

    @staticmethod
    def _check(name: str) -> None:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is no name for a certificate.",
                next_step="Use a host name, such as shop.example.com, or a word in lower case.",
                name=name,
            )

    def _write(self, file: Path, content: bytes) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        # Made with these rights, not given them afterwards: between the two somebody could read it.
        file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)


def folder_of(cluster: str) -> Folder:
    """What is minted for a cluster stands in `$LABKIT_HOME`, else where this system keeps a user's state."""
    import platformdirs

    home = os.environ.get("LABKIT_HOME") or platformdirs.user_state_dir("labkit")
    return Folder(Path(home) / "minted" / re.sub(r"[^A-Za-z0-9.-]+", "-", cluster))


def _on_disk(name: str) -> str:
    return name.replace("*", "wildcard")
