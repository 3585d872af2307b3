"""What each sidecar is to run: one document per kind of resource, kept in memory and on disk.

    <root>/<namespace>/<pod>/{lds.json,cds.json,sds/*.json}

`xds.XdsServer` hands the documents to the proxies that wait for them. The files are istiod's notebook: an istiod that
starts again finds the certificates that it has issued, and a version is a hash of the content, so that proxies which
run the same already are told nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from labkit.embedded.controlplane.translation.model import Key, ObjectReference
from labkit.embedded.envoy_messages import Config


def as_text(content: Config) -> str:
    """The content of a document as it is written."""
    return json.dumps(content, separators=(",", ":"))


@dataclass(frozen=True)
class Document:
    """One DiscoveryResponse."""

    text: str
    because: tuple[ObjectReference, ...] = ()
    """The objects whose change is in it for the first time."""
    written: float = field(default_factory=time.time)
    version: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", hashlib.blake2b(self.text.encode(), digest_size=6).hexdigest())

    def response(self) -> bytes:
        """The text with the version that Envoy is to repeat when it has accepted this."""
        empty = '{"version_info":""'
        if self.text.startswith(empty):
            return f'{{"version_info":"{self.version}"{self.text[len(empty) :]}'.encode()
        return as_text({**json.loads(self.text), "version_info": self.version}).encode()


class Delivery:
    """Keeps documents below `root`, and tells those who wait when one says something new."""

    def __init__(self, root: Path) -> None:
        # The path that istiod sees may be a mount that is a link.
        self.root = root.resolve()
        self.because: tuple[ObjectReference, ...] = ()
        """The objects that the changes of this moment come from."""
        self.watchers: list[Callable[[Path], None]] = []
        """Told of every document that says something new."""
        self.removed: list[Callable[[Key], None]] = []
        """Told of every sidecar that is removed."""
        self._written: dict[Path, Document] = {}

    def directory(self, key: Key) -> Path:
        """Where the documents of a sidecar lie."""
        return self.root.joinpath(*key)

    def document(self, path: Path) -> Document | None:
        """What is to be run; None as long as nobody has written it."""
        return self._written.get(path)

    def write(self, path: Path, content: Config) -> bool:
        """Write one document unless it says the same already."""
        return self.write_text(path, as_text(content))

    def write_text(self, path: Path, text: str) -> bool:
        if self._known(path) == text:
            return False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}.new")
        # 0600: some of these files hold private keys. No fsync: after a crash istiod writes everything anew.
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        aside.replace(path)
        self._written[path] = Document(text, self.because)
        for watcher in self.watchers:
            watcher(path)
        return True

    def read(self, path: Path) -> Config | None:
        """What a document says; None when there is none, or nothing that makes sense."""
        try:
            content = json.loads(self._known(path) or "")
        except ValueError:
            return None
        return content if isinstance(content, dict) else None

    def remove(self, key: Key) -> None:
        """Remove all documents of a sidecar, with its key."""
        directory = self.directory(key)
        shutil.rmtree(directory, ignore_errors=True)
        for path in [path for path in self._written if path.is_relative_to(directory)]:
            del self._written[path]
        for watcher in self.removed:
            watcher(key)
        with contextlib.suppress(OSError):  # other pods of the namespace may still be there
            directory.parent.rmdir()

    def known_sidecars(self) -> set[Key]:
        """Whose documents are there, also from an istiod before this one."""
        return {(path.parent.name, path.name) for path in self.root.glob("*/*") if path.is_dir()}

    def _known(self, path: Path) -> str | None:
        if path not in self._written:
            try:
                self._written[path] = Document(path.read_text())
            except (OSError, UnicodeDecodeError):
                return None
            for watcher in self.watchers:
                watcher(path)
        return self._written[path].text
