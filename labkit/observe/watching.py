"""Objects kept in memory by watching them: a snapshot at any time without a request, and a call when one changes.

Each kind is listed once and then watched, in a thread of its own that mostly sleeps in its socket. A cluster that goes
away is tried again until it is back; then everything is listed anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import DEPLOYMENT, Kind
from labkit.errors import LabError
from labkit.observe.objects import SNAPSHOT_KINDS, Snapshot, labels_of, name_of, namespace_of, snapshot_of

TURN_SECONDS = 30.0  # so long a watch lasts; then the kind is listed again, which also mends what was missed
RETRY_SECONDS = 1.0

Changed = Callable[[Kind, Obj | None, Obj | None], None]
"""Called in a watching thread with a kind, and an object before and after its change."""


class Watching:
    """The objects that decide about traffic, as they are now."""

    def __init__(self, reopen: Callable[[], Cluster], changed: Changed, lost: Callable[[str], None]) -> None:
        """`reopen` makes a connection of our own to the cluster; `lost` hears why it does not answer, or ""."""
        self._reopen, self._changed, self._lost = reopen, changed, lost
        self._found: dict[Kind, dict[str, Obj]] = {kind: {} for kind in (*SNAPSHOT_KINDS, DEPLOYMENT)}
        self._listed: set[Kind] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._ready = threading.Event()
        self._cluster: Cluster | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to watch."""
        for kind in self._found:
            name = f"labkit watches {kind.plural}"
            thread = threading.Thread(target=self._follow, args=(kind,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End. The threads notice at the end of their turn; nothing is called any more."""
        self._stopped.set()

    def wait_until_listed(self, limit: float) -> bool:
        """Wait until every kind was listed once."""
        return self._ready.wait(limit)

    @property
    def cluster(self) -> Cluster:
        """The connection, made when it is first needed and anew after it was lost."""
        with self._lock:
            if self._cluster is None:
                self._cluster = self._reopen()
            return self._cluster

    def snapshot(self, namespaces: Sequence[str] = ()) -> Snapshot:
        """Everything as it is now."""
        with self._lock:
            found = {kind: list(objects.values()) for kind, objects in self._found.items()}
        istiod = next((one for one in found[DEPLOYMENT] if labels_of(one).get("app") == "istiod"), None)
        there = {name_of(one) for one in found[SNAPSHOT_KINDS[0]]}
        return snapshot_of(found, istiod, [name for name in namespaces if name in there] if namespaces else ())

    def _follow(self, kind: Kind) -> None:
        while not self._stopped.is_set():
            cluster = None
            try:
                cluster = self.cluster
                if not self._turn(cluster, kind):
                    self._stopped.wait(2 * RETRY_SECONDS)  # a kind that is not served, until a mesh is installed
            except LabError as error:
                self._lose(cluster, error)
                self._stopped.wait(RETRY_SECONDS)

    def _turn(self, cluster: Cluster, kind: Kind) -> bool:
        items, version = cluster.list_with_version(kind)
        self._lost("")
        self._take_list(kind, items)
        if not version:
            return False
        until = time.monotonic() + TURN_SECONDS
        params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(int(TURN_SECONDS))}
        for event in cluster.transport.lines(kind.path(), params, until=until):
            if self._stopped.is_set() or event["type"] == "ERROR":  # 410: the version is too old; list again
                break
            self._take(kind, event)
        return True

    def _take_list(self, kind: Kind, items: list[Obj]) -> None:
        new = {_key(item): item for item in items}
        with self._lock:
            old, self._found[kind] = self._found[kind], new
            first = kind not in self._listed
            self._listed.add(kind)
            complete = len(self._listed) == len(self._found)
        if complete:
            self._ready.set()
        for key in old.keys() | new.keys():
            if _version(old.get(key)) != _version(new.get(key)):
                self._tell(kind, None if first else old.get(key), new.get(key))

    def _take(self, kind: Kind, event: Obj) -> None:
        obj = event["object"]
        if event["type"] == "BOOKMARK":
            return
        key, gone = _key(obj), event["type"] == "DELETED"
        with self._lock:
            before = self._found[kind].get(key)
            if gone:
                self._found[kind].pop(key, None)
            else:
                self._found[kind][key] = obj
        self._tell(kind, before, None if gone else obj)

    def _tell(self, kind: Kind, before: Obj | None, after: Obj | None) -> None:
        if not self._stopped.is_set():
            self._changed(kind, before, after)

    def _lose(self, cluster: Cluster | None, error: LabError) -> None:
        with self._lock:
            if self._cluster is cluster:  # the kubeconfig of a restarted cluster may be another
                self._cluster = None
        if not self._stopped.is_set():
            self._lost(error.what)


def _key(obj: Obj) -> str:
    return f"{namespace_of(obj)}/{name_of(obj)}"


def _version(obj: Obj | None) -> object:
    return (obj or {}).get("metadata", {}).get("resourceVersion")
