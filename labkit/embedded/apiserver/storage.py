"""Where objects live: sqlite for safety, memory for speed, a history for watchers.

House rules: one global counter numbers all writes and is the resourceVersion. An object is kept as the bytes that
clients get, serialised once per write. A write is in sqlite's log before it is acknowledged, so it outlives
`kill -9` of this process. This file knows no kind and no HTTP.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.embedded.apiserver.failures import expired

log = logging.getLogger(__name__)

Object = dict[str, Any]

HISTORY_EVENTS = 4000  # a client that lags behind further than this lists anew; etcd's window is five minutes
HISTORY_BYTES = 6_000_000  # so that a thousand rewritten pods do not weigh on a small machine
CHECKPOINT_BYTES = 8_000_000  # sqlite's log is folded into its file when this much was written


def encode(obj: Any) -> bytes:
    """Canonical JSON: compact UTF-8. Raises ValueError for NaN and infinity, which JSON does not have."""
    return json.dumps(obj, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


@dataclass(slots=True, frozen=True)
class Record:
    """One stored object: its bytes and the few fields that selecting needs without parsing."""

    resource: str
    """`group/plural`, without a version: all served versions share the storage."""
    namespace: str
    name: str
    uid: str
    version: int
    labels: dict[str, str]
    body: bytes

    def load(self) -> Object:
        """A fresh copy of the object, the caller's to change."""
        return json.loads(self.body)  # type: ignore[no-any-return]

    def rendered(self, api_version: str) -> bytes:
        """The body in another served version of the same kind: only `apiVersion`, always first, differs."""
        start = b'{"apiVersion":"' + api_version.encode() + b'"'
        return self.body if self.body.startswith(start) else start + self.body[self.body.index(b",") :]


def make_record(resource: str, obj: Object, version: int) -> Record:
    """The record of `obj` as it will be stored in write number `version`."""
    metadata = obj["metadata"]
    metadata["resourceVersion"] = str(version)
    ordered = {"apiVersion": obj.pop("apiVersion"), "kind": obj.pop("kind"), "metadata": obj.pop("metadata"), **obj}
    obj |= ordered
    return Record(
        resource,
        metadata.get("namespace", ""),
        metadata["name"],
        metadata["uid"],
        version,
        metadata.get("labels") or {},
        encode(ordered),
    )


@dataclass(slots=True)
class Change:
    """One write as watchers see it. `before` and `after` are None on create and delete."""

    version: int
    resource: str
    before: Record | None
    after: Record | None
    last: Record | None = None
    """On delete: `before` with the version of the deletion."""

    @property
    def size(self) -> int:
        return sum(len(record.body) for record in (self.after or self.before, self.last) if record)


Listener = Callable[[Change], None]


class Storage:
    """All objects of one cluster. Single-threaded: it belongs to one event loop."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self._objects: dict[str, dict[tuple[str, str], Record]] = {}
        self._history: deque[Change] = deque()
        self._history_bytes = 0
        self._listeners: dict[str, set[Listener]] = {}
        self._db = self._open()
        self.version = self._load()
        self.oldest_version = self.version
        """Watches may start at this version or later."""
        self._written = 0

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.database, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        # NORMAL: no fsync per write. Survives the death of the process, and a power cut without corruption.
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA wal_autocheckpoint=0")
        db.execute("PRAGMA cache_size=-512")  # everything is in memory already
        db.execute(
            "CREATE TABLE IF NOT EXISTS objects (resource TEXT, namespace TEXT, name TEXT, version INTEGER, body BLOB,"
            " PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID"
        )
        db.execute("CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER)")
        db.execute("INSERT OR IGNORE INTO counter VALUES (1, 1)")
        return db

    def _load(self) -> int:
        for resource, version, body in self._db.execute("SELECT resource, version, body FROM objects"):
            metadata = json.loads(body)["metadata"]
            record = Record(
                resource,
                metadata.get("namespace", ""),
                metadata["name"],
                metadata["uid"],
                version,
                metadata.get("labels") or {},
                body,
            )
            self._objects.setdefault(resource, {})[record.namespace, record.name] = record
        row = self._db.execute("SELECT version FROM counter").fetchone()
        return int(row[0])

    def close(self) -> None:
        """Fold the log into the database file and close it."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    # Reading.

    def get(self, resource: str, namespace: str, name: str) -> Record | None:
        """One object, or None."""
        return self._objects.get(resource, {}).get((namespace, name))

    def records(self, resource: str, namespace: str = "") -> list[Record]:
        """All objects of a resource, or those of one namespace, in the order of their keys."""
        table = self._objects.get(resource, {})
        keys = sorted(key for key in table if not namespace or key[0] == namespace)
        return [table[key] for key in keys]

    def records_at(self, version: int, resource: str, namespace: str = "") -> list[Record]:
        """As `records`, but as they were after write number `version`. Raises 410."""
        table = dict(self._objects.get(resource, {}))
        for change in reversed(list(self.since(resource, version))):
            record = change.after or change.before
            assert record is not None
            if change.before:
                table[record.namespace, record.name] = change.before
            else:
                del table[record.namespace, record.name]
        return [table[key] for key in sorted(table) if not namespace or key[0] == namespace]

    def resources(self) -> list[str]:
        """The resources that have objects."""
        return [resource for resource, table in self._objects.items() if table]

    # Writing.

    def put(self, resource: str, obj: Object) -> Record:
        """Create or replace; numbers the object and tells the watchers."""
        record = make_record(resource, obj, self.version + 1)
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
                (resource, record.namespace, record.name, record.version, record.body),
            )
        table = self._objects.setdefault(resource, {})
        before = table.get((record.namespace, record.name))
        table[record.namespace, record.name] = record
        self._publish(Change(record.version, resource, before, record))
        return record

    def remove(self, resource: str, namespace: str, name: str) -> Record:
        """Delete; the record returned carries the version of the deletion, as its watchers see it."""
        stored = self._objects[resource][namespace, name]
        last = make_record(resource, stored.load(), self.version + 1)
        with self._transaction():
            self._db.execute(
                "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", (resource, namespace, name)
            )
        del self._objects[resource][namespace, name]
        self._publish(Change(last.version, resource, stored, None, last))
        return last

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db, self.version + 1)

    def _publish(self, change: Change) -> None:
        self.version = change.version
        self._history.append(change)
        self._history_bytes += change.size
        while len(self._history) > HISTORY_EVENTS or self._history_bytes > HISTORY_BYTES:
            dropped = self._history.popleft()
            self._history_bytes -= dropped.size
            self.oldest_version = dropped.version
        for listener in list(self._listeners.get(change.resource, ())):
            listener(change)
        self._written += change.size
        if self._written > CHECKPOINT_BYTES:
            self._written = 0
            threading.Thread(target=_checkpoint, args=(self.database,), daemon=True).start()

    # Watching.

    def since(self, resource: str, version: int) -> Iterator[Change]:
        """The changes of a resource after `version`. Raises 410 when the history does not reach back that far."""
        if version < self.oldest_version:
            raise expired(f"too old resource version: {version} ({self.oldest_version})")
        return iter([c for c in self._history if c.version > version and c.resource == resource])

    def listen(self, resource: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` on every change of `resource` until the returned function is called."""
        listeners = self._listeners.setdefault(resource, set())
        listeners.add(listener)
        return lambda: listeners.discard(listener)


class _Transaction:
    """One write and the counter, together or not at all."""

    def __init__(self, db: sqlite3.Connection, version: int) -> None:
        self.db = db
        self.version = version

    def __enter__(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.db.execute("UPDATE counter SET version = ?", (self.version,))
            self.db.execute("COMMIT")
        else:
            self.db.execute("ROLLBACK")


def _checkpoint(database: Path) -> None:
    # In a thread with a connection of its own: folding the log may wait for the disk, writers must not.
    try:
        db = sqlite3.connect(database)
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        db.close()
    except sqlite3.Error as error:
        log.debug("checkpoint: %s", error)
