"""Declared and observed, held against each other: where they differ, that is the lesson."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from labkit.cluster import Cluster
from labkit.errors import InputError, MeshError
from labkit.observe import metrics, proxies
from labkit.observe.declared_mesh import read_declared_mesh
from labkit.observe.rates import increase
from labkit.observe.seen import probed_calls, seen_calls
from labkit.outcomes import Observation
from labkit.policy.declared.disagreeing import Circumstances, Seen, disagreements

if TYPE_CHECKING:
    from labkit.views.disagreed import Disagreed


class Disagreements:
    """Where the views differ.

    lab.disagreements(seconds=None)          calls that were seen otherwise than they are declared, and the likeliest
                                             cause; of the next `seconds`, or of all that was counted and probed
    """

    cluster: Cluster
    tried: list[Observation]

    def disagreements(self, seconds: float | None = None, *, observed: Iterable[Seen] = ()) -> Disagreed:
        """Hold what the proxies counted and probes met against what is declared.

        Without `seconds`, all that was counted since the proxies were started, which may be older than the policies.
        """
        from labkit.views.disagreed import Disagreed

        seen = [*observed, *self._seen_now(seconds)]
        around = Circumstances(_unsynced(self.cluster), datetime.now(UTC))
        found = disagreements(read_declared_mesh(self.cluster), seen, around)
        return Disagreed(found, len(seen), seconds)

    def _seen_now(self, seconds: float | None) -> list[Seen]:
        if seconds is None:
            return [*probed_calls(self.tried), *seen_calls(metrics.scrape(self.cluster).samples)]
        if isinstance(seconds, bool) or not 0 < seconds <= 600:
            raise InputError(
                f"{seconds!r} is no time to watch for.",
                next_step="Give seconds between 0 and 600: lab.disagreements(seconds=5).",
            )
        before = metrics.scrape(self.cluster)
        time.sleep(seconds)  # the time is what is asked for
        added = increase(before, metrics.scrape(self.cluster))
        return seen_calls(added.samples, added.seconds)


def _unsynced(cluster: Cluster) -> dict[str, str]:
    """Proxies that run something else than they shall, by pod, and what."""
    try:
        found = proxies.proxy_statuses(cluster)
    except MeshError:  # no mesh, or an istiod that does not tell
        return {}
    wrong = {}
    for one in found:
        if not one.synced:
            pod, _, namespace = one.name.partition(".")
            late = [f"{kind} is {status}" for kind, status in one.late.items()]
            wrong[f"{namespace}/{pod}"] = ", ".join([*late, *one.errors.values()])
    return wrong
