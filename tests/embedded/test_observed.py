"""What proxies counted, refused and showed to scrapers, on a whole cluster with real traffic; and a real Prometheus."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from labkit.cli import main
from labkit.errors import InputError, MeshError
from labkit.lab import Lab
from labkit.observe.objects import find_workload
from labkit.observe.refusals import CLIENT, LOG, PROBE, STATISTICS
from tests.embedded.observed_world import (
    CALLER,
    HAS_PROMETHEUS,
    LOW,
    MERGED,
    METRICS,
    OUTSIDE,
    OWN,
    PORT,
    URL,
    WITHOUT_PROMETHEUS,
    observed_mesh,
    policy,
)

CLUSTER = "observed"
MODULE = Path(__file__).resolve().parents[2] / "assets/wasm/response-header.wasm"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with observed_mesh(CLUSTER) as lab:
        yield lab


@pytest.fixture(autouse=True)
def _no_policies(lab: Lab) -> Iterator[None]:
    yield
    for each in lab.cluster.objects("PeerAuthentication", "shop"):
        lab.delete(f"peerauthentication/{each['metadata']['name']}", "shop")
    for each in lab.cluster.objects("DestinationRule", "shop"):
        lab.delete(f"destinationrule/{each['metadata']['name']}", "shop")


def wait_for(what: str, condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def requests(lab: Lab, policy: str, source: str = "") -> int:
    frame = lab.metrics("shop").requests
    frame = frame[(frame["destination"] == MERGED) & (frame["reporter"] == "destination")]
    frame = frame[frame["connection_security_policy"] == policy]
    return int(frame[frame["source"] == source]["requests"].sum() if source else frame["requests"].sum())


def address(lab: Lab, workload: str) -> str:
    return str(find_workload(lab.cluster, workload).ready_pod()["status"]["podIP"])


def scraped(lab: Lab, workload: str, port: int, path: str) -> tuple[int | None, int | None, str]:
    """What a plain HTTP client outside of the mesh gets from a port of a pod: status, curl's exit code, body."""
    seen = lab.probe(OUTSIDE, f"http://{address(lab, workload)}:{port}{path}")
    return seen.http_status, seen.exit_code, seen.body


# What was counted


def test_each_request_is_in_the_frame_with_its_protection(lab: Lab) -> None:
    encrypted, plain = requests(lab, "mutual_tls", CALLER), requests(lab, "none", "unknown")
    for _ in range(3):
        assert lab.probe(CALLER, URL).http_status == 200
    for _ in range(2):
        assert lab.probe(OUTSIDE, URL).http_status == 200
    wait_for("the servers to count", lambda: requests(lab, "mutual_tls", CALLER) == encrypted + 3)
    wait_for("the plaintext to count", lambda: requests(lab, "none", "unknown") == plain + 2)
    found = lab.metrics("shop")
    assert not found.unanswered and found.proxies == 3
    told = found.requests[found.requests["source"] == CALLER]
    assert set(told["reporter"]) == {"source", "destination"} and set(told["response_code"]) == {"200"}
    top = found.plaintext().iloc[0]
    assert (top["source"], top["destination"], top["service"]) == ("unknown", MERGED, "shop/visits")
    assert CALLER not in set(found.plaintext()["source"])
    # Envoy adds up histograms once a second, counters at once.
    wait_for("the durations", lambda: CALLER in set(lab.metrics("shop").latency()["source"]))
    latency = lab.metrics("shop").latency().set_index("source")
    assert 0 < latency.loc[CALLER, "p50_ms"] <= latency.loc[CALLER, "p99_ms"]
    assert found.success().set_index("source").loc[CALLER, "success_rate"] == 1.0


def test_two_readings_have_rates_and_a_restart_does_not_go_backwards(lab: Lab) -> None:
    before = lab.metrics("shop")
    for _ in range(4):
        lab.probe(CALLER, URL)

    def between() -> int:
        frame = (lab.metrics("shop") - before).requests
        return int(frame[(frame["destination"] == MERGED) & (frame["reporter"] == "destination")]["requests"].sum())

    wait_for("the difference", lambda: between() == 4)
    watched = lab.rates("shop", seconds=0.2)
    assert 0.2 <= watched.seconds < 10 and not len(watched.requests)
    lab.restart(MERGED)

    def counted_anew() -> bool:
        lab.probe(CALLER, URL)  # the first may still meet the old pod, whose counters go with it
        return between() >= 1

    wait_for("the new proxy to count", counted_anew)
    assert (lab.metrics("shop") - before).requests["requests"].min() > 0


def test_where_no_proxy_is_nobody_counts(lab: Lab) -> None:
    with pytest.raises(MeshError, match="No pod in legacy has a proxy"):
        lab.metrics("legacy")
    with pytest.raises(InputError):
        lab.metrics("nowhere")
    with pytest.raises(InputError):
        lab.rates(seconds=0)


# What was refused


def test_refused_plaintext_is_told_by_all_who_know_of_it(lab: Lab) -> None:
    assert lab.probe(OUTSIDE, URL).http_status == 200
    before = lab.refusals("shop")
    lab.apply(policy("STRICT"))
    counted = requests(lab, "none")
    for _ in range(2):
        assert lab.probe(OUTSIDE, URL).exit_code == 56
    assert lab.probe(CALLER, URL).http_status == 200
    wait_for(
        "the statistics", lambda: lab.refusals("shop").count(STATISTICS, MERGED) == before.count(server=MERGED) + 2
    )
    wait_for("the access log", lambda: lab.refusals("shop").count(LOG, MERGED) == before.count(LOG, MERGED) + 2)
    now = lab.refusals("shop")
    assert now.count(PROBE, "shop/visits") == before.count(PROBE, "shop/visits") + 2
    assert not now.refusals.silent
    # No metric of Istio has them, and who is in the mesh is not among them.
    assert requests(lab, "none") == counted
    assert CALLER not in set(now.frame["client"])
    assert now.count(server=OWN) == before.count(server=OWN)


def test_callers_in_plaintext_are_in_the_servers_logs_with_their_address(lab: Lab) -> None:
    def told() -> dict[str, int]:
        frame = lab.plaintext_callers("shop")
        here = frame[(frame["server"] == MERGED) & (frame["port"] == PORT)]
        return dict(zip(here["client"], here["requests"], strict=True))

    before = sum(told().values())
    assert lab.probe(OUTSIDE, URL).http_status == lab.probe(CALLER, URL).http_status == 200
    wait_for("the log", lambda: sum(told().values()) == before + 1)
    # What comes through the ClusterIP comes from the node here; the caller in the mesh spoke mTLS.
    assert any(client.startswith("node ") for client in told()) and CALLER not in told()


def test_a_client_that_is_told_to_send_plaintext_is_named(lab: Lab) -> None:
    lab.apply(policy("STRICT"))
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "plain", "namespace": "shop"},
        "spec": {"host": "visits.shop.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
    }
    lab.apply(rule)
    wait_for("the refusal", lambda: lab.probe(CALLER, URL).http_status == 503)

    def told() -> set[str]:
        frame = lab.refusals("shop").frame
        return set(frame[(frame["server"] == MERGED) & (frame["client"] == CALLER)]["told_by"])

    wait_for("the client's proxy and the server's log", lambda: told() == {CLIENT, LOG, PROBE})


# Who scrapes (the story of the lab: STRICT stops the scraper, a port's DISABLE lets it back in)


def test_strict_stops_a_plaintext_scraper_and_a_port_of_its_own_lets_it_back_in(lab: Lab) -> None:
    assert scraped(lab, OWN, METRICS, "/metrics")[0] == 200
    lab.apply(policy("STRICT"))
    assert scraped(lab, OWN, METRICS, "/metrics")[:2] == (None, 56)
    lab.apply(policy("STRICT", app="own", ports={str(METRICS): "DISABLE"}))
    status, _, body = scraped(lab, OWN, METRICS, "/metrics")
    assert status == 200 and "visits_total" in body
    # Only that port, and only that workload.
    assert scraped(lab, OWN, PORT, "/")[1] == 56
    assert scraped(lab, MERGED, METRICS, "/metrics")[1] == 56


def test_merged_metrics_are_shown_under_strict_too(lab: Lab) -> None:
    lab.apply(policy("STRICT"))
    status, _, body = scraped(lab, MERGED, 15020, "/stats/prometheus")
    assert status == 200 and "visits_total" in body and "istio_requests_total" in body
    # The policy that the lab applies says so once more, and changes nothing: the proxy's own ports are never captured.
    lab.apply(policy("STRICT", app="visits", ports={"15020": "DISABLE"}))
    assert scraped(lab, MERGED, 15020, "/stats/prometheus")[0] == 200
    assert scraped(lab, MERGED, METRICS, "/metrics")[1] == 56
    status, _, body = scraped(lab, OWN, 15020, "/stats/prometheus")
    assert status == 200 and "visits_total" not in body  # it wanted no merging


# The command line


def command(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, [*words, "--cluster", f"embedded:{CLUSTER}"])
    return done.exit_code, done.output


def test_the_same_from_a_shell(lab: Lab, tmp_path: Path) -> None:
    lab.probe(OUTSIDE, URL), lab.probe(CALLER, URL)
    wait_for("both", lambda: requests(lab, "none") and requests(lab, "mutual_tls"))
    code, text = command("metrics", "shop", "--security", "--json")
    found = {one["connection_security_policy"]: one["requests"] for one in json.loads(text)}
    assert code == 0 and found["mutual_tls"] > 0 and found["none"] > 0
    assert "unknown" in command("metrics", "shop")[1]
    code, text = command("top-plaintext", "--fail", "--json")
    assert code == 1 and json.loads(text)[0]["source"] == "unknown"
    assert command("metrics", "--by", "colour")[0] == 2
    code, text = command("refusals", "shop", "--json")
    assert code == 0 and {"refusals", "silent"} == set(json.loads(text))
    picture = tmp_path / "mesh.png"
    code, text = command("dashboard", "mesh", "--by", "proxies", "--seconds", "1", "--save", str(picture))
    assert code == 0 and "How many requests" in text and picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("service", "shop/visit", "Did you mean 'visits'?"),
        ("service", "shp/visits", "Did you mean 'shop'?"),
        ("service", "nope", "There is no Service 'nope'."),
        ("workload", "shop/calle", "Did you mean 'shop/caller'?"),
        ("workload", "nope", "There is no Deployment or pod 'nope'."),
    ],
)
def test_a_dashboard_of_nothing_says_so_at_once(lab: Lab, kind: str, name: str, meant: str) -> None:
    assert lab
    code, text = command("dashboard", kind, name)
    assert (code, meant in text) == (2, True), text


def test_a_dashboard_of_what_is_there_needs_no_namespace(lab: Lab) -> None:
    assert "shop/visits" in str(lab.dashboards.service("visits", by="proxies", seconds=1)).splitlines()[0]
    assert "shop/caller" in str(lab.dashboards.workload("caller", by="proxies", seconds=1)).splitlines()[0]


# istiod, and dashboards without a Prometheus


def test_the_control_plane_counts_what_it_does(lab: Lab) -> None:
    lab.apply(policy("PERMISSIVE"))
    shown = lab.dashboards.control_plane(by="proxies", seconds=1)
    connected = shown.frames["How many proxies are connected?"]
    assert connected["value"].tolist() == [3.0, 3.0]
    text = lab.cluster.transport.text(
        "/api/v1/namespaces/istio-system/services/istiod:15014/proxy/metrics", action="reading"
    )
    for name in ("pilot_xds_pushes{type=", "pilot_proxy_convergence_time_bucket", "citadel_server_csr_count"):
        assert name in text
    with pytest.raises(MeshError, match="no Prometheus"):
        lab.dashboards.mesh(by="prometheus")


def test_wasm_extensions_are_seen_where_there_are_some(lab: Lab) -> None:
    def machines() -> list[float]:
        frame = lab.dashboards.wasm(by="proxies", seconds=1).frames["How many virtual machines run?"]
        return list(frame["value"])

    assert not machines()
    spec = {"selector": {"matchLabels": {"app": "visits"}}, "url": f"file://{MODULE}"}
    metadata = {"name": "header", "namespace": "shop"}
    lab.apply({"apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin", "metadata": metadata, "spec": spec})
    try:
        wait_for("the virtual machine", lambda: max(machines(), default=0) >= 1)
    finally:
        lab.delete("wasmplugin/header", "shop")


# Prometheus


@pytest.fixture(scope="module")
def prometheus(lab: Lab) -> Iterator[Lab]:
    if not HAS_PROMETHEUS:
        pytest.skip(WITHOUT_PROMETHEUS)
    lab.install_prometheus()
    yield lab
    lab.uninstall_prometheus()


def health(lab: Lab, workload: str) -> str:
    """`up`, or why not, of the target that is a workload's pod."""
    name = find_workload(lab.cluster, workload).ready_pod()["metadata"]["name"]
    frame = lab.prometheus().targets()
    frame = frame[(frame["target"] == name) & (frame["job"] == "kubernetes-pods")]
    return ", ".join(f"{h} {e}".strip() for h, e in zip(frame["health"], frame["last_error"], strict=True))


def test_it_finds_its_targets_by_asking_the_api_server(prometheus: Lab) -> None:
    wait_for("all targets", lambda: set(prometheus.prometheus().targets()["health"]) == {"up"}, 30)
    frame = prometheus.prometheus().targets()
    urls = dict(zip(frame["target"].str.rsplit("-", n=2).str[0], frame["url"], strict=True))
    assert urls["visits"].endswith(":15020/stats/prometheus") and urls["own"].endswith(f":{METRICS}/metrics")
    jobs = set(zip(frame["job"], frame["target"].str.rsplit("-", n=2).str[0], strict=True))
    # `own` wants no merging: its proxy is scraped on a port of its own; a proxy is not scraped twice.
    assert {("istiod", "istiod"), ("kubernetes-pods", "own"), ("envoy-stats", "own")} <= jobs
    assert ("envoy-stats", "visits") not in jobs and not any(target == "old" for _, target in jobs)
    # A low port is asked for where it is, and called what it is.
    assert urls["low"].endswith(f":{20000 + LOW}/metrics")
    assert prometheus.prometheus().query(f'up{{instance=~".*:{LOW}"}}')["value"].tolist() == [1.0]


def test_it_follows_pods_that_come_and_go(prometheus: Lab) -> None:
    wait_for("the pod", lambda: health(prometheus, MERGED) == "up", 30)
    before = find_workload(prometheus.cluster, MERGED).ready_pod()["metadata"]["name"]
    prometheus.restart(MERGED)
    wait_for("its successor", lambda: health(prometheus, MERGED) == "up", 30)
    wait_for("the old one to be gone", lambda: before not in set(prometheus.prometheus().targets()["target"]), 30)


def test_under_strict_its_target_is_down_until_the_port_is_open(prometheus: Lab) -> None:
    wait_for("both targets", lambda: health(prometheus, OWN) == health(prometheus, MERGED) == "up", 30)
    prometheus.apply(policy("STRICT"))
    wait_for("the scraper to be refused", lambda: "connection reset by peer" in health(prometheus, OWN), 30)
    assert health(prometheus, MERGED) == "up"
    prometheus.apply(policy("STRICT", app="own", ports={str(METRICS): "DISABLE"}))
    wait_for("the scraper to be let in", lambda: health(prometheus, OWN) == "up", 30)


def test_it_counts_what_the_proxies_count(prometheus: Lab) -> None:
    for _ in range(3):
        prometheus.probe(CALLER, URL)
    query = 'sum(istio_requests_total{reporter="destination",destination_workload="visits",source_workload="caller"})'
    expected = requests(prometheus, "mutual_tls", CALLER)
    assert expected >= 3

    def counted() -> float:
        frame = prometheus.prometheus().query(query)
        return float(frame["value"].iloc[0]) if len(frame) else 0.0

    wait_for("the next scrape", lambda: counted() == requests(prometheus, "mutual_tls", CALLER), 30)
    over_time = prometheus.prometheus().range("up", minutes=1, step=5)
    assert {"time", "value", "job"} <= set(over_time.columns) and set(over_time["value"]) <= {0.0, 1.0}
    # One on its proxy's page, one scraped beside its proxy, one without a proxy.
    assert set(prometheus.prometheus().query("visits_total")["app"]) == {"visits", "own", "low"}


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_our_own_readings_and_it_say_the_same(prometheus: Lab, share: float) -> None:
    """Counts, and quantiles by Prometheus' histogram_quantile over the very same buckets."""
    prometheus.probe(CALLER, URL)

    def ours() -> tuple[int, float]:
        found = prometheus.metrics("shop", durations=True)
        frame = found.latency(share, by=("destination_workload",)).set_index("destination_workload")
        return (int(frame["requests"]["visits"]), float(frame.iloc[:, 0]["visits"])) if len(frame) else (0, 0.0)

    def its() -> tuple[int, float]:
        where = '{reporter="destination",destination_workload="visits"}'
        counted = prometheus.prometheus().query(f"sum(istio_request_duration_milliseconds_count{where})")
        buckets = f"sum by (le) (istio_request_duration_milliseconds_bucket{where})"
        told = prometheus.prometheus().query(f"histogram_quantile({share}, {buckets})")
        if not len(counted) or not len(told):
            return 0, 0.0
        return int(counted["value"].iloc[0]), round(float(told["value"].iloc[0]), 2)

    def same() -> bool:
        before, told, after = ours(), its(), ours()
        # Kubelet's probes never come to these filters, so nothing is counted in between.
        return before == after == told and before[0] > 0

    wait_for("the next scrape", same, 30)


def test_words_of_promql_pass_unchanged_and_mistakes_come_back_in_its_own_words(prometheus: Lab) -> None:
    wait_for("the first scrapes", lambda: len(prometheus.prometheus().query("up")) >= 4, 30)
    found = prometheus.prometheus().query('count(up{job=~".+", pod!="a&b=c%2B"}) + 0')
    assert found["value"].iloc[0] >= 4
    with pytest.raises(InputError, match="parse error"):
        prometheus.prometheus().query("sum(")


def test_dashboards_are_answered_by_it(prometheus: Lab) -> None:
    def lines() -> set[str]:
        prometheus.probe(CALLER, URL), prometheus.probe(OUTSIDE, URL)
        view = prometheus.dashboards.workload(MERGED, minutes=1)
        return set(view.frames["Who calls, and how is it protected?"]["line"])

    wait_for("rates of both", lambda: {f"{CALLER}, mTLS", "unknown, plaintext"} <= lines(), 40)
    view = prometheus.dashboards.control_plane(minutes=1)
    assert "Prometheus" in str(view) and len(view.frames["How many proxies are connected?"])
    shown = prometheus.dashboards
    for view in (shown.mesh(minutes=1), shown.service("shop/visits", minutes=1), shown.wasm(minutes=1)):
        assert "Prometheus" in str(view) and any(len(frame) for frame in view.frames.values())
