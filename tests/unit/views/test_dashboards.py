"""The five dashboards: what they ask, what their lines are called, and that their pictures say it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import InputError
from labkit.observe.exposition import read_page
from labkit.observe.metrics import Scrape
from labkit.observe.prometheus import PrometheusServer
from labkit.observe.questions import Point, Question, promql
from labkit.views.asking import by_prometheus, by_readings
from labkit.views.dashboards import DASHBOARDS, PATTERNS, REFUSED, Dashboard, Panel, mesh, service, workload
from labkit.views.plots import INK, MOST_LINES, REST, Answers, DashboardView, line_name

ABOUT = {"service": ("shop/store",), "workload": ("shop/store",)}


def every() -> list[Dashboard]:
    return [make(*ABOUT.get(kind, ())) for kind, make in DASHBOARDS.items()]


def test_there_are_istio_s_five_and_each_panel_asks_something() -> None:
    assert set(DASHBOARDS) == set(PATTERNS) == {"mesh", "service", "workload", "control-plane", "wasm"}
    for dashboard in every():
        assert len(dashboard.panels) >= 5
        for panel in dashboard.panels:
            assert panel.title.endswith("?") and panel.unit and panel.questions
            for question in panel.questions:
                assert promql(question)


def test_what_is_asked_can_be_read_in_promql() -> None:
    queries = mesh().queries("30s")
    assert queries["How many requests, and how were they protected?"] == [
        'sum by (connection_security_policy) (rate(istio_requests_total{reporter=~"destination"}[30s]))'
    ]
    assert set(a_view().queries) == {"Who calls?"}


def test_the_readings_of_a_dashboard_hold_what_it_asks_for() -> None:
    """The pattern of statistics lets through each metric that is asked for."""
    for kind, make in DASHBOARDS.items():
        if not PATTERNS[kind]:
            continue
        for panel in make(*ABOUT.get(kind, ())).panels:
            for question in panel.questions:
                plain = re.sub(r"\(([^|)]*)\|[^)]*\)", r"\1", question.metric)
                name = plain.removeprefix("envoy_").replace("_", ".", 1) if plain.startswith("envoy_") else plain
                if plain == REFUSED:
                    name = "listener.10.1.0.4_15006.no_filter_chain_match"
                assert re.search(PATTERNS[kind], name), (kind, name)


def test_a_service_or_workload_has_two_names() -> None:
    for wrong in ("store", "shop/", "/store", "a/b/c", ""):
        with pytest.raises(InputError):
            service(wrong)
        with pytest.raises(InputError):
            workload(wrong)


@pytest.mark.parametrize(
    ("values", "by", "name", "expected"),
    [
        (("mutual_tls",), ("connection_security_policy",), "", "mTLS"),
        (("none",), ("connection_security_policy",), "in", "in plaintext"),
        (("shop", "web"), ("source_workload_namespace", "source_workload"), "", "shop/web"),
        (("unknown", "unknown"), ("source_workload_namespace", "source_workload"), "", "unknown"),
        (
            ("shop", "web", "none"),
            ("source_workload_namespace", "source_workload", "connection_security_policy"),
            "",
            "shop/web, plaintext",
        ),
        (("503", "UF"), ("response_code", "response_flags"), "", "503 UF"),
        (("200", "-"), ("response_code", "response_flags"), "", "200"),
        (("envoy_wasm_envoy_wasm_runtime_v8_active",), ("__name__",), "", "v8_active"),
        ((), (), "p90", "p90"),
        ((), (), "", "all"),
    ],
)
def test_lines_are_called_by_what_they_are(
    values: tuple[str, ...], by: tuple[str, ...], name: str, expected: str
) -> None:
    assert line_name(values, name, by) == expected


def requests(encrypted: float, plain: float) -> str:
    labels = 'reporter="destination",source_workload="{}",connection_security_policy="{}"'
    lines = (("web", "mutual_tls", encrypted), ("unknown", "none", plain))
    return "".join(f"istio_requests_total{{{labels.format(a, b)}}} {n}\n" for a, b, n in lines)


def readings(*pages: str) -> list[Scrape]:
    return [Scrape(tuple(read_page(page, "shop/store-1")), {"shop/store-1": float(n)}) for n, page in enumerate(pages)]


def test_readings_answer_and_the_words_say_the_numbers() -> None:
    view = by_readings(mesh(), readings(requests(0, 0), requests(10, 2), requests(30, 4)), clock=1000.0)
    frame = view.frames["How many requests, and how were they protected?"]
    assert frame[["line", "value"]].values.tolist() == [["mTLS", 10], ["plaintext", 2], ["mTLS", 20], ["plaintext", 2]]
    text = str(view)
    assert "how were they protected? mTLS 15, plaintext 2 requests per second" in text
    assert "How many bytes do TCP connections carry? Nothing was seen." in text
    assert "3 readings of our own" in text


def test_what_never_moved_is_drawn_only_where_nothing_else_is() -> None:
    quiet = by_readings(mesh(), readings(requests(5, 5), requests(5, 9)), 0).frames
    assert set(quiet["How many requests, and how were they protected?"]["line"]) == {"plaintext"}
    still = by_readings(mesh(), readings(requests(5, 5), requests(5, 5)), 0).frames
    assert set(still["How many requests, and how were they protected?"]["line"]) == {"mTLS", "plaintext"}


class Prometheus:
    """Answers each query with one series."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.transport = self

    def reply(self, path: str, params: dict[str, str]) -> tuple[int, str]:
        self.queries.append(params["query"])
        metric = {"connection_security_policy": "mutual_tls"}
        series = [{"metric": metric, "values": [[1000, "1"], [1005, "NaN"], [1010, "3"]]}]
        return 200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}})


def test_prometheus_answers_the_same_questions() -> None:
    asked = Prometheus()
    server = PrometheusServer(asked, "istio-system", "prometheus", "9090")  # type: ignore[arg-type]
    view = by_prometheus(mesh(), server, minutes=1, window="30s")
    assert asked.queries[0] == (
        'sum by (connection_security_policy) (rate(istio_requests_total{reporter=~"destination"}[30s]))'
    )
    assert len(asked.queries) == sum(len(panel.questions) for panel in mesh().panels)
    assert view.frames["How many requests, and how were they protected?"]["value"].tolist() == [1.0, 3.0]
    assert "Prometheus, last 1 min" in str(view)


def a_view(count: int = 2) -> DashboardView:
    panel = Panel("Who calls?", "requests per second", (Question("a"),))
    points = [(f"caller {n}", Point((), t, float(n))) for n in range(count) for t in (0.0, 1.0)]
    empty = Answers(Panel("What share?", "answered", (Question("a", how="share"),), share=True), ())
    return DashboardView(Dashboard("The mesh", (panel,)), [Answers(panel, tuple(points)), empty], "a test")


def test_too_many_lines_become_one() -> None:
    lines = a_view(20).answers[0].lines()
    assert len(lines) == MOST_LINES and next(iter(lines)) == "caller 19" and list(lines)[-1] == REST
    assert lines[REST][0] == (0.0, float(sum(range(13))))
    assert REST not in a_view(MOST_LINES).answers[0].lines()


def test_the_drawing_says_titles_units_and_lines_in_the_pages_own_ink() -> None:
    view = a_view()
    for word in ("Who calls?", "requests per second", "caller 1", "nothing was seen", "a test"):
        assert word in view.svg
    assert "currentColor" in view.svg and INK not in view.svg and view.svg.startswith("<svg")
    shown: dict[str, Any] = view._repr_mimebundle_()
    assert "In words" in shown["text/html"] and "currentColor" in shown["text/html"]
    assert "currentColor" not in shown["image/svg+xml"] and "Who calls?" in shown["image/svg+xml"]


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures_are_written_on_light_and_dark_paper(tmp_path: Path, suffix: str, begins: bytes) -> None:
    light, dark = (a_view().save(tmp_path / f"{d}.{suffix}", dark=d) for d in (False, True))
    assert light.read_bytes().startswith(begins) and dark.read_bytes().startswith(begins)
    assert light.read_bytes() != dark.read_bytes()
    with pytest.raises(InputError, match="no picture"):
        a_view().save(tmp_path / "mesh.txt")
