"""istiod's own page of metrics, read by Prometheus' client library."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from labkit.embedded.controlplane.monitoring import Histogram, Monitor


def read(monitor: Monitor) -> list[Sample]:
    text = monitor.page("1.0", {"pilot_xds": 2}, {"galley_validation_passed": 3})
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(samples: list[Sample], name: str, **labels: str) -> float:
    [found] = [
        s for s in samples if s.name.removesuffix("_total") == name.removesuffix("_total") and s.labels == labels
    ]
    return found.value


def test_pushes_are_counted_by_type_and_the_names_are_istio_s() -> None:
    monitor = Monitor()
    for kind, size in (("clusters", 5000), ("clusters", 2_000_000), ("listeners", 10)):
        monitor.sent(kind, size)
    monitor.rejected("listeners")
    monitor.event("peerauthentications", "ADDED", is_config=True)
    monitor.event("pods", "DELETED", is_config=False)
    text = monitor.page("1.0", {}, {})
    assert 'pilot_xds_pushes{type="cds"} 2\n' in text and 'pilot_xds_pushes{type="lds"} 1\n' in text
    assert 'pilot_total_xds_rejects{type="lds"} 1\n' in text
    assert 'pilot_k8s_cfg_events{event="add",type="peerauthentications"} 1\n' in text
    assert 'pilot_k8s_reg_events{event="delete",type="pods"} 1\n' in text
    samples = read(monitor)
    assert value(samples, "pilot_xds_config_size_bytes_bucket", type="cds", le="10000") == 1
    assert value(samples, "pilot_xds_config_size_bytes_bucket", type="cds", le="+Inf") == 2
    assert monitor.total("pilot_xds_pushes") == 3 and monitor.total("nothing") == 0


def test_how_long_it_takes_until_a_proxy_runs_a_change() -> None:
    monitor = Monitor()
    monitor.taken("listeners", push_seconds=0.02, converged_seconds=0.4)
    samples = read(monitor)
    assert value(samples, "pilot_xds_push_time_bucket", type="lds", le="0.01") == 0
    assert value(samples, "pilot_xds_push_time_bucket", type="lds", le="0.1") == 1
    assert value(samples, "pilot_proxy_convergence_time_bucket", le="0.1") == 0
    assert value(samples, "pilot_proxy_convergence_time_bucket", le="0.5") == 1
    assert value(samples, "pilot_proxy_convergence_time_sum") == pytest.approx(0.4)


def test_what_others_know_and_the_process_itself_are_on_the_page() -> None:
    samples = read(Monitor())
    assert value(samples, "pilot_xds") == 2 and value(samples, "galley_validation_passed") == 3
    assert value(samples, "istio_build", component="pilot", tag="1.0") == 1
    assert value(samples, "process_resident_memory_bytes") > 1e6 and value(samples, "process_cpu_seconds") > 0


def test_nothing_observed_has_no_buckets() -> None:
    histogram = Histogram((1, 2))
    assert list(histogram.lines("x")) == ["# TYPE x histogram"]
    histogram.observe(1)
    assert 'x_bucket{le="1"} 1' in histogram.lines("x")
