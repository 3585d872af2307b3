"""What Istio's five Grafana dashboards answer, as questions: control plane, mesh, service, workload, Wasm extensions.

https://istio.io/latest/docs/ops/integrations/grafana/ ; each panel asks one thing, says it as its title, and names the
unit of its axis. The same questions are answered by Prometheus over time, or by readings of our own of some seconds.
Added to Istio's: how requests were protected, everywhere, and what was refused, because that is what this workshop is
about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labkit.errors import InputError
from labkit.observe.questions import NAME, Question, Where, promql

REQUESTS, DURATION = "istio_requests_total", "istio_request_duration_milliseconds"
REFUSED = "envoy_listener_no_filter_chain_match"
"""What STRICT refuses is no request, and in none of Istio's metrics: the listener alone counts it."""

SENT, RECEIVED = "istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"
POLICY = "connection_security_policy"
SOURCE = ("source_workload_namespace", "source_workload")
DESTINATION = ("destination_workload_namespace", "destination_workload")

AT_SERVERS: Where = {"reporter": "destination"}
AT_CLIENTS: Where = {"reporter": "source|waypoint"}
ANSWERED: Where = {"response_code": "![05].*"}
"""Neither one of the 500s nor 0: no answer."""

_OF_ISTIOD: Where = {"pod": "(istiod.*|)", "job": "!prometheus"}
"""Of what every process counts; scrape configurations differ in all labels but these."""

QUANTILES = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))


@dataclass(frozen=True)
class Panel:
    """One picture: the question in words, the unit of its axis, and what is asked."""

    title: str
    unit: str
    questions: tuple[Question, ...]
    stacked: bool = False
    share: bool = False
    """Values from 0 to 1, drawn as per cent."""


@dataclass(frozen=True)
class Dashboard:
    """Some panels about one thing."""

    title: str
    panels: tuple[Panel, ...]

    def queries(self, window: str = "1m") -> dict[str, list[str]]:
        """What is asked, in PromQL: by the title of the panel."""
        return {panel.title: [promql(question, window) for question in panel.questions] for panel in self.panels}


def _durations(by: tuple[str, ...], where: Where) -> tuple[Question, ...]:
    return tuple(Question(DURATION, by, where, "quantile", share=share, name=name) for share, name in QUANTILES)


def mesh() -> Dashboard:
    """The whole mesh."""
    return Dashboard(
        "The mesh",
        (
            Panel(
                "How many requests, and how were they protected?",
                "requests per second",
                (Question(REQUESTS, (POLICY,), AT_SERVERS),),
                stacked=True,
            ),
            Panel(
                "What share of requests is answered well?",
                "answered, and without 5xx",
                (Question(REQUESTS, (), AT_CLIENTS, "share", ANSWERED, name="all clients"),),
                share=True,
            ),
            Panel(
                "How many requests fail?",
                "requests per second",
                (
                    Question(REQUESTS, (), {**AT_SERVERS, "response_code": "4.."}, name="4xx, servers say"),
                    Question(REQUESTS, (), {**AT_SERVERS, "response_code": "5.."}, name="5xx, servers say"),
                    Question(REQUESTS, (), {**AT_CLIENTS, "response_code": "5..|0"}, name="5xx or none, clients say"),
                ),
            ),
            Panel(
                "How many connections does no sidecar take?",
                "connections per second",
                (Question(REFUSED, (), {"envoy_listener_address": ".*_15006"}, name="plaintext under STRICT, mostly"),),
            ),
            Panel(
                "Who gets the requests?",
                "requests per second",
                (Question(REQUESTS, DESTINATION, AT_CLIENTS),),
            ),
            Panel(
                "How long do nine of ten requests take at most?",
                "milliseconds (p90)",
                (Question(DURATION, DESTINATION, AT_CLIENTS, "quantile", share=0.9),),
            ),
            Panel(
                "How many bytes do TCP connections carry?",
                "bytes per second",
                (
                    Question(RECEIVED, DESTINATION, AT_CLIENTS, name="to"),
                    Question(SENT, DESTINATION, AT_CLIENTS, name="from"),
                ),
            ),
        ),
    )


def service(name: str) -> Dashboard:
    """One Service, `namespace/name`, as its servers' proxies see it."""
    namespace, plain = _split(name)
    here: Where = {"destination_service_namespace": namespace, "destination_service_name": plain}
    return _incoming(f"Service {name}", {**AT_SERVERS, **here}, {**AT_CLIENTS, **here})


def workload(name: str) -> Dashboard:
    """One workload, `namespace/name`: what comes in, and what it sends out."""
    namespace, plain = _split(name)
    inside: Where = {"destination_workload_namespace": namespace, "destination_workload": plain}
    outside: Where = {**AT_CLIENTS, "source_workload_namespace": namespace, "source_workload": plain}
    incoming = _incoming(f"Workload {name}", {**AT_SERVERS, **inside}, {**AT_CLIENTS, **inside})
    service_of = ("destination_service_namespace", "destination_service_name")
    return Dashboard(
        incoming.title,
        (
            *incoming.panels,
            Panel("Whom does it call?", "requests per second", (Question(REQUESTS, service_of, outside),)),
            Panel(
                "What share of its calls is answered well?",
                "answered, and without 5xx",
                (Question(REQUESTS, service_of, outside, "share", ANSWERED),),
                share=True,
            ),
            Panel("How long do its calls take?", "milliseconds", _durations((), outside)),
        ),
    )


def _incoming(title: str, at_server: Where, at_clients: Where) -> Dashboard:
    return Dashboard(
        title,
        (
            Panel(
                "Who calls, and how is it protected?",
                "requests per second",
                (Question(REQUESTS, (*SOURCE, POLICY), at_server),),
            ),
            Panel(
                "How do requests end?",
                "requests per second",
                (Question(REQUESTS, ("response_code", "response_flags"), at_server),),
            ),
            Panel(
                "What share is answered well, as callers see it?",
                "answered, and without 5xx",
                (Question(REQUESTS, SOURCE, at_clients, "share", ANSWERED),),
                share=True,
            ),
            Panel("How long do requests take?", "milliseconds", _durations((), at_server)),
            Panel(
                "How large are requests and answers?",
                "bytes (p90)",
                (
                    Question("istio_request_bytes", (), at_server, "quantile", share=0.9, name="requests"),
                    Question("istio_response_bytes", (), at_server, "quantile", share=0.9, name="answers"),
                ),
            ),
            Panel(
                "How many bytes do TCP connections carry?",
                "bytes per second",
                (
                    Question(RECEIVED, (POLICY,), at_server, name="in"),
                    Question(SENT, (POLICY,), at_server, name="out"),
                ),
            ),
        ),
    )


def control_plane() -> Dashboard:
    """istiod itself."""
    webhooks = (
        ("sidecar_injection_success_total", "injected"),
        ("sidecar_injection_failure_total", "injection failed"),
        ("galley_validation_passed", "object valid"),
        ("galley_validation_failed", "object refused"),
    )
    return Dashboard(
        "The control plane",
        (
            Panel(
                "What does istiod send to proxies?",
                "documents per second",
                (Question("pilot_xds_pushes", ("type",)),),
            ),
            Panel(
                "How long until proxies run a change?",
                "milliseconds",
                tuple(
                    Question("pilot_proxy_convergence_time", (), {}, "quantile", share=q, scale=1000, name=name)
                    for q, name in QUANTILES
                ),
            ),
            Panel(
                "What do proxies refuse?", "documents", (Question("pilot_total_xds_rejects", ("type",), how="gauge"),)
            ),
            Panel(
                "What makes istiod work?",
                "events per second",
                (
                    Question("pilot_k8s_cfg_events", ("event", "type")),
                    Question("pilot_k8s_reg_events", ("event", "type")),
                ),
            ),
            Panel(
                "How many proxies are connected?", "proxies", (Question("pilot_xds", how="gauge", name="connected"),)
            ),
            Panel(
                "What do the webhooks say?",
                "reviews per second",
                tuple(Question(metric, name=name) for metric, name in webhooks),
            ),
            Panel(
                "How many certificates does it issue?",
                "certificates per second",
                (Question("citadel_server_success_cert_issuance_count", name="issued"),),
            ),
            Panel(
                "How much memory does it hold?",
                "MiB",
                (
                    Question(
                        "process_resident_memory_bytes",
                        where=_OF_ISTIOD,
                        how="gauge",
                        scale=2**-20,
                        name="resident",
                    ),
                ),
            ),
            Panel(
                "Which versions run?",
                "instances",
                (Question("istio_build", ("component", "tag"), how="gauge"),),
            ),
            Panel(
                "How busy is it?",
                "CPU cores",
                (Question("process_cpu_seconds_total", where=_OF_ISTIOD, name="used"),),
            ),
        ),
    )


def wasm() -> Dashboard:
    """Wasm extensions in proxies, and what they cost."""
    machines = "envoy_wasm_(envoy_wasm_runtime|vm)_(v8|null)_"
    loads = "envoy_wasm_remote_load_"
    return Dashboard(
        "Wasm extensions",
        (
            Panel("How many virtual machines run?", "VMs", (Question(f"{machines}active", (NAME,), how="gauge"),)),
            Panel("How many were made?", "VMs", (Question(f"{machines}created", (NAME,), how="gauge"),)),
            Panel(
                "Do modules come from the cache?",
                "loads",
                (Question(f"{loads}cache_(entries|hits|misses|negative_hits)", (NAME,), how="gauge"),),
            ),
            Panel(
                "Can modules be fetched?",
                "fetches",
                (Question(f"{loads}fetch_(failures|successes)", (NAME,), how="gauge"),),
            ),
            Panel(
                "How much memory do the proxies hold?",
                "MiB",
                (Question("envoy_server_memory_allocated", how="gauge", scale=2**-20, name="all proxies"),),
            ),
        ),
    )


DASHBOARDS: dict[str, Callable[..., Dashboard]] = {
    "mesh": mesh,
    "service": service,
    "workload": workload,
    "control-plane": control_plane,
    "wasm": wasm,
}

PATTERNS = {
    "mesh": r"istio_(requests_total|request_duration_milliseconds|tcp_)|^server\.uptime$|no_filter_chain_match$",
    "service": r"istio_(requests_total|request_|response_|tcp_)|^server\.uptime$",
    "workload": r"istio_(requests_total|request_|response_|tcp_)|^server\.uptime$",
    "control-plane": "",
    "wasm": r"^wasm\.|^server\.(uptime|memory_allocated)$",
}
"""Names of Envoy's statistics that a dashboard is about; none: it is about istiod."""


def _split(name: str) -> tuple[str, str]:
    namespace, slash, plain = name.partition("/")
    if not (namespace and slash and plain) or "/" in plain:
        raise InputError(f"{name!r} names nothing.", next_step="Write 'namespace/name'.")
    return namespace, plain
