"""What Telemetry objects say of logs and metrics, and which of them count for a workload."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import InputError
from labkit.policy.support import not_acted_on
from labkit.policy.telemetry import EffectiveTelemetry, Log, Telemetry, parse_telemetry, telemetry_for
from labkit.policy.workload import Workload

Object = dict[str, Any]
REQUESTS, DURATION = "istio_requests_total", "istio_request_duration_milliseconds"
SERVER = Workload("foo", "server-1", labels={"app": "server"})
OTHER = Workload("foo", "other-1", labels={"app": "other"})
FAR = Workload("bar", "server-1", labels={"app": "server"})


def obj(spec: Object, *, namespace: str = "foo", name: str = "one", created: str = "2026-01-01T00:00:00Z") -> Object:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": created}
    return {"kind": "Telemetry", "metadata": metadata, "spec": spec}


def read(spec: Object, **where: str) -> Telemetry:
    return parse_telemetry(obj(spec, **where))


def effective(*objects: Telemetry, workload: Workload = SERVER) -> EffectiveTelemetry:
    return telemetry_for(objects, workload, "istio-system")


def override(**fields: Any) -> Object:
    return {"metrics": [{"overrides": [fields]}]}


def off(metric: str = "", mode: str = "") -> Object:
    match = {key: value for key, value in (("metric", metric), ("mode", mode)) if value}
    return override(disabled=True, **({"match": match} if match else {}))


@pytest.mark.parametrize(
    ("spec", "metric", "server", "counted"),
    [
        ({}, REQUESTS, True, True),
        (off(), REQUESTS, True, False),
        (off("ALL_METRICS"), DURATION, False, False),
        (off("REQUEST_COUNT"), REQUESTS, True, False),
        (off("REQUEST_COUNT"), DURATION, True, True),
        (off("REQUEST_COUNT", "SERVER"), REQUESTS, True, False),
        (off("REQUEST_COUNT", "SERVER"), REQUESTS, False, True),
        (off("REQUEST_COUNT", "CLIENT"), REQUESTS, False, False),
        (off("REQUEST_COUNT", "CLIENT_AND_SERVER"), REQUESTS, True, False),
        (override(match={"customMetric": REQUESTS}, disabled=True), REQUESTS, True, False),
    ],
)
def test_a_metric_is_counted_unless_it_is_switched_off_for_that_side(
    spec: Object, metric: str, server: bool, counted: bool
) -> None:
    assert effective(read(spec)).enabled(metric, server=server) is counted


def test_the_later_and_the_narrower_override_wins() -> None:
    mesh = read(off("REQUEST_COUNT"), namespace="istio-system")
    mine = read(override(match={"metric": "REQUEST_COUNT"}, disabled=False))
    assert effective(mesh, mine).enabled(REQUESTS, server=True)
    assert effective(mine, mesh).enabled(REQUESTS, server=True)  # whatever the order
    assert not effective(mesh, mine, workload=FAR).enabled(REQUESTS, server=True)


def test_switching_off_all_metrics_holds_until_another_override_speaks_of_that_side() -> None:
    mesh = read(off(), namespace="istio-system")
    sizes = read(override(match={"metric": "REQUEST_SIZE", "mode": "SERVER"}, disabled=True))
    assert effective(mesh, sizes).enabled(REQUESTS, server=True)
    assert not effective(mesh, sizes).enabled("istio_request_bytes", server=True)
    assert not effective(mesh, sizes).enabled(REQUESTS, server=False)


@pytest.mark.parametrize(
    ("entries", "counted", "tags"),
    [
        ([{"providers": ["prometheus"], "overrides": ["a"]}], True, {"a"}),
        ([{"providers": ["prometheus"], "overrides": ["a"]}, {"overrides": ["b"]}], True, {"a", "b"}),
        ([{"providers": ["stackdriver"], "overrides": ["a"]}], False, set()),
        ([{"providers": ["stackdriver"], "overrides": ["a"]}, {"overrides": ["b"]}], False, set()),
        ([{"providers": ["stackdriver"], "overrides": ["a"]}, {"providers": ["prometheus"]}], True, set()),
    ],
)
def test_providers_of_the_last_entry_that_names_any_count(entries: list[Object], counted: bool, tags: set[str]) -> None:
    written = [
        {
            "providers": [{"name": name} for name in entry.get("providers", ())],
            "overrides": [{"tagOverrides": {name: {"value": "'x'"}}} for name in entry.get("overrides", ())],
        }
        for entry in entries
    ]
    found = effective(read({"metrics": written}))
    assert found.enabled(REQUESTS, server=True) is counted
    assert set(found.tags(REQUESTS, server=True)) == tags


def test_labels_are_added_changed_and_taken_away() -> None:
    tags = {"host": {"value": "request.host"}, "reporter": {"operation": "REMOVE"}}
    found = effective(read(override(match={"metric": "REQUEST_COUNT"}, tagOverrides=tags)))
    assert found.tags(REQUESTS, server=True) == {"host": "request.host", "reporter": None}
    assert found.tags(DURATION, server=True) == {}


@pytest.mark.parametrize(
    ("namespace", "selector", "workload", "concerned"),
    [
        ("istio-system", {}, SERVER, True),
        ("istio-system", {}, FAR, True),
        ("istio-system", {"app": "server"}, SERVER, False),
        ("foo", {}, SERVER, True),
        ("foo", {}, FAR, False),
        ("foo", {"app": "server"}, SERVER, True),
        ("foo", {"app": "server"}, OTHER, False),
        ("foo", {"app": "server"}, FAR, False),
    ],
)
def test_whom_an_object_concerns(namespace: str, selector: Object, workload: Workload, concerned: bool) -> None:
    spec = {**off(), **({"selector": {"matchLabels": selector}} if selector else {})}
    found = effective(read(spec, namespace=namespace), workload=workload)
    assert found.enabled(REQUESTS, server=True) is not concerned


def logging(*entries: Object, **more: Any) -> Object:
    return {"accessLogging": list(entries), **more}


def by(name: str, **more: Any) -> Object:
    return {"providers": [{"name": name}], **more}


ENVOY, JSON = by("envoy"), by("json")
MINE = {"selector": {"matchLabels": {"app": "server"}}}


def test_of_two_objects_for_a_whole_namespace_the_older_one_counts() -> None:
    older = read(logging(by("envoy", disabled=True)), name="z")
    newer = read(logging(ENVOY), name="a", created="2026-02-01T00:00:00Z")
    assert effective(newer, older).logs(server=True) == ()
    assert effective(newer).logs(server=True) == (Log("envoy"),)


def test_all_objects_that_select_the_workload_count() -> None:
    older = read(logging(ENVOY, **MINE), name="z")
    newer = read(off("REQUEST_COUNT") | MINE, name="a", created="2026-02-01T00:00:00Z")
    found = effective(newer, older)
    assert found.logs(server=True) == (Log("envoy"),)
    assert not found.enabled(REQUESTS, server=True)


def test_logs_of_the_narrowest_level_that_speaks_replace_the_wider_ones() -> None:
    mesh = read(logging(JSON), namespace="istio-system")
    silent = read(off(), namespace="foo")
    mine = read(logging({"disabled": True}, **MINE))
    assert effective(mesh, silent, mine).logs(server=True) == ()
    assert effective(mesh, silent, mine, workload=OTHER).logs(server=True) == (Log("json"),)
    assert effective(silent, workload=OTHER).logs(server=True) is None
    replaced = read(logging(ENVOY, **MINE))
    assert effective(mesh, replaced).logs(server=True) == (Log("envoy"),)


# The names of the rows are those of TestAccessLogging, pilot/pkg/model/telemetry_test.go of istio/istio.
@pytest.mark.parametrize(
    ("entries", "defaults", "server", "client"),
    [
        pytest.param([], (), None, None, id="empty"),
        pytest.param([], ("envoy",), ["envoy"], ["envoy"], id="default provider only"),
        pytest.param([ENVOY], (), ["envoy"], ["envoy"], id="provider only"),
        pytest.param([by("envoy", match={"mode": "CLIENT"})], (), None, ["envoy"], id="client"),
        pytest.param([by("envoy", match={"mode": "SERVER"})], (), ["envoy"], None, id="server"),
        pytest.param([{}], (), None, None, id="empty, no default"),
        pytest.param([{}], ("envoy",), ["envoy"], ["envoy"], id="override default"),
        pytest.param([{"disabled": True}], ("envoy",), [], [], id="disable default"),
        pytest.param([by("envoy", disabled=True)], (), [], [], id="disabled"),
        pytest.param(
            [by("envoy", match={"mode": "SERVER"}), by("json", match={"mode": "CLIENT"})],
            (),
            ["envoy"],
            ["json"],
            id="server and client by different providers",
        ),
    ],
)
def test_whose_logs_are_written(
    entries: list[Object], defaults: tuple[str, ...], server: list[str] | None, client: list[str] | None
) -> None:
    objects = [read(logging(*entries))] if entries else []
    found = telemetry_for(objects, SERVER, "istio-system", defaults)
    logs = found.logs(server=True), found.logs(server=False)
    assert [None if one is None else [log.provider for log in one] for one in logs] == [server, client]


def test_a_filter_stays_with_its_provider() -> None:
    errors = {"expression": "response.code >= 400"}
    assert effective(read(logging(by("envoy", filter=errors)))).logs(server=True) == (
        Log("envoy", "response.code >= 400"),
    )
    # Without a provider it is about nobody, and the mesh's own log goes on.
    assert effective(read(logging({"filter": errors}))).logs(server=True) is None


def test_what_is_not_written_right_is_said() -> None:
    with pytest.raises(InputError, match="names the metric 'COUNT'") as unknown:
        read(override(match={"metric": "COUNT"}))
    assert "REQUEST_COUNT" in str(unknown.value.next_step)
    with pytest.raises(InputError, match="gives the label 'host' no value"):
        read(override(tagOverrides={"host": {}}))


def test_what_is_not_acted_on_is_said() -> None:
    assert not_acted_on(obj(off("REQUEST_COUNT"))) == ()
    (messages,) = not_acted_on(obj(off("GRPC_REQUEST_MESSAGES")))
    assert "GRPC_REQUEST_MESSAGES" in messages
    (traces,) = not_acted_on(obj({"tracing": [{"randomSamplingPercentage": 10}]}))
    assert traces.startswith("spec.tracing has no effect")
