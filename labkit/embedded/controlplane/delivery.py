"""The files that sidecars read: written aside and renamed, and only when they say something new.

    <root>/<namespace>/<pod>/{lds.json,cds.json,sds/*.json}

Envoy watches each file and reads it again when it is replaced. It compares listener by listener: one whose text is
the same is not touched, and one where only filter chains differ keeps its socket and the connections in the chains
that stayed. So writing the whole of `lds.json` is as gentle as sending one listener.

What Envoy thinks of a file it does not report back, as it would over gRPC. A rejected update leaves the old one in
force, is logged by Envoy as a warning (`... rejected: <why>`) in the container istio-proxy, shows in its
`config_dump` as `error_state`, and counts in `/stats/prometheus` on port 15090: `envoy_listener_manager_lds_update_
rejected`, `envoy_cluster_manager_cds_update_rejected`, `envoy_sds_default_update_rejected`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

from labkit.embedded.controlplane.translation.model import Key
from labkit.embedded.envoy_messages import Config


def as_text(content: Config) -> str:
    """The content of a file as it is written."""
    return json.dumps(content, separators=(",", ":"))


class Delivery:
    """Writes below `root`, and remembers what it wrote."""

    def __init__(self, root: Path) -> None:
        # Envoy's watches are on real directories; the path that istiod sees may be a mount that is a link.
        self.root = root.resolve()
        self._written: dict[Path, str] = {}

    def directory(self, key: Key) -> Path:
        """Where the files of a sidecar lie."""
        return self.root.joinpath(*key)

    def write(self, path: Path, content: Config) -> bool:
        """Write one file unless it says the same already."""
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
        self._written[path] = text
        return True

    def read(self, path: Path) -> Config | None:
        """What a file says; None when there is none, or nothing that makes sense."""
        try:
            content = json.loads(self._known(path) or "")
        except ValueError:
            return None
        return content if isinstance(content, dict) else None

    def remove(self, key: Key) -> None:
        """Remove all files of a sidecar, with its key."""
        directory = self.directory(key)
        shutil.rmtree(directory, ignore_errors=True)
        for path in [path for path in self._written if path.is_relative_to(directory)]:
            del self._written[path]
        with contextlib.suppress(OSError):  # other pods of the namespace may still be there
            directory.parent.rmdir()

    def known_sidecars(self) -> set[Key]:
        """Whose files are there, also from an istiod before this one."""
        return {(path.parent.name, path.name) for path in self.root.glob("*/*") if path.is_dir()}

    def _known(self, path: Path) -> str | None:
        if path not in self._written:
            try:
                self._written[path] = path.read_text()
            except (OSError, UnicodeDecodeError):
                return None
        return self._written[path]
