"""What istiod counts of itself, under Istio's names, as `/metrics` on port 15014 shows it.

https://istio.io/latest/docs/reference/commands/pilot-discovery/#metrics ; with these Istio's control plane dashboard
has something to show: pushes, their time and size, rejections, events, webhooks, certificates, memory, CPU.

Own writing of the text format: the names of Istio's counters do not end in `_total`, which `prometheus_client` adds.
"""

from __future__ import annotations

import os
import resource
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

Labels = tuple[tuple[str, str], ...]

# pilot/pkg/xds/monitoring.go; with edges below, where a small mesh has all of its times
_SHORT = (0.002, 0.005, 0.01, 0.02, 0.05)
PUSH_SECONDS = (*_SHORT, 0.1, 1, 3, 5, 10, 20, 30)
CONVERGENCE_SECONDS = (*_SHORT, 0.1, 0.5, 1, 3, 5, 10, 20, 30)
SIZE_BYTES = (1, 10_000, 1_000_000, 4_000_000, 10_000_000, 40_000_000)

_TYPES = {"clusters": "cds", "listeners": "lds", "secrets": "sds"}

_HELP = {
    "pilot_xds_pushes": "Documents sent to proxies, by type.",
    "pilot_total_xds_rejects": "Documents that proxies refused, by type.",
    "pilot_push_triggers": "Total number of times a push was triggered, by what changed.",
    "pilot_k8s_cfg_events": "Changes of Istio's objects.",
    "pilot_k8s_reg_events": "Changes of pods, Services and their like.",
    "pilot_xds_push_time": "Seconds from sending a document to the proxy's word that it runs it.",
    "pilot_proxy_convergence_time": "Delay in seconds between config change and a proxy running it.",
    "pilot_xds_config_size_bytes": "Bytes of the documents that were sent.",
}


class Histogram:
    """Counts of observations up to each edge."""

    def __init__(self, edges: Iterable[float]) -> None:
        self.edges = tuple(edges)
        self._counts: dict[Labels, list[float]] = {}

    def observe(self, value: float, **labels: str) -> None:
        """Count one observation."""
        counts = self._counts.setdefault(_key(labels), [0.0] * (len(self.edges) + 2))
        for index, edge in enumerate(self.edges):
            counts[index] += value <= edge
        counts[-2] += 1
        counts[-1] += value

    def lines(self, name: str) -> Iterator[str]:
        """The lines of the page."""
        yield f"# TYPE {name} histogram"
        for labels, counts in sorted(self._counts.items()):
            for edge, count in zip((*map("{:g}".format, self.edges), "+Inf"), counts, strict=False):
                yield f"{name}_bucket{_written((*labels, ('le', edge)))} {count:g}"
            yield f"{name}_sum{_written(labels)} {counts[-1]:.9g}"
            yield f"{name}_count{_written(labels)} {counts[-2]:g}"


class Monitor:
    """Counters by name and labels, and three histograms."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        self.push_time = Histogram(PUSH_SECONDS)
        self.convergence_time = Histogram(CONVERGENCE_SECONDS)
        self.config_size = Histogram(SIZE_BYTES)

    def add(self, name: str, **labels: str) -> None:
        """Count one."""
        self._counts[name][_key(labels)] += 1

    def total(self, name: str) -> float:
        """All of a name."""
        return sum(self._counts[name].values())

    # -- what proxies are sent, and say

    def sent(self, kind: str, size: int) -> None:
        """A proxy was sent a document."""
        self.add("pilot_xds_pushes", type=_TYPES[kind])
        self.config_size.observe(size, type=_TYPES[kind])

    def taken(self, kind: str, *, push_seconds: float, converged_seconds: float) -> None:
        """A proxy runs it: so long after it was sent, and after the change was known."""
        self.push_time.observe(push_seconds, type=_TYPES[kind])
        self.convergence_time.observe(converged_seconds)

    def rejected(self, kind: str) -> None:
        """A proxy refuses it."""
        self.add("pilot_total_xds_rejects", type=_TYPES[kind])

    def event(self, resource: str, event: str, *, is_config: bool) -> None:
        """The API tells of a change."""
        name = {"ADDED": "add", "MODIFIED": "update", "DELETED": "delete"}.get(event, event.lower())
        self.add("pilot_k8s_cfg_events" if is_config else "pilot_k8s_reg_events", type=resource, event=name)

    # -- the page

    def page(self, version: str, gauges: Mapping[str, float], counters: Mapping[str, float]) -> str:
        """Everything, in the text format; `gauges` and `counters` are what others know."""
        lines = [
            "# TYPE istio_build gauge",
            f'istio_build{{component="pilot",tag="{version}"}} 1',
            "# TYPE pilot_info gauge",
            f'pilot_info{{version="{version}"}} 1',
        ]
        known = {"gauge": {**gauges, **_process_gauges()}, "counter": {**counters, **_process_counters()}}
        for kind, values in known.items():
            for name, value in values.items():
                lines += [f"# TYPE {name} {kind}", f"{name} {value:.15g}"]
        for name, counts in sorted(self._counts.items()):
            lines += [f"# HELP {name} {_HELP[name]}"] if name in _HELP else []
            lines.append(f"# TYPE {name} counter")
            lines += [f"{name}{_written(labels)} {value:g}" for labels, value in sorted(counts.items())]
        for name, histogram in (
            ("pilot_xds_push_time", self.push_time),
            ("pilot_proxy_convergence_time", self.convergence_time),
            ("pilot_xds_config_size_bytes", self.config_size),
        ):
            lines += [f"# HELP {name} {_HELP[name]}", *histogram.lines(name)]
        return "\n".join(lines) + "\n"


def _process_gauges() -> dict[str, float]:
    """Memory and age of this process, https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics"""
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text(encoding="ascii").split()[1]) if statm.exists() else 0
    return {
        "process_resident_memory_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "process_start_time_seconds": _STARTED,
    }


def _process_counters() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"process_cpu_seconds_total": used.ru_utime + used.ru_stime}


_STARTED = time.time()


def _key(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _written(labels: Labels) -> str:
    inside = ",".join(f'{name}="{value}"' for name, value in labels)
    return f"{{{inside}}}" if inside else ""
