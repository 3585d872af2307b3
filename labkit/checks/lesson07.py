"""The checks of lesson 07: a closed door, an open one, and what is behind it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labkit.checks.evidence import (
    LOOKS,
    OUTSIDE,
    RETURNED,
    counted_in,
    gateway_door,
    gateway_pod,
    pods_of,
    ready_of,
    ready_words,
)
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.cluster.kinds import DEPLOYMENT
from labkit.observe import metrics
from labkit.observe.declared import mode_of
from labkit.observe.exposition import Sample
from labkit.observe.objects import name_of, take_snapshot
from labkit.observe.traffic import probe
from labkit.outcomes import Observation

APP = "customers"
FIRST = "Harbour Books"
ECHO, CUSTOMERS, API = ({"Host": f"{name}.example.com"} for name in ("echo", "customers", "api"))
REFUSED = 7
"""curl's exit code for a port where nobody listens."""


def _ask(cluster: Cluster, path: str = "", headers: dict[str, str] | None = None) -> Observation:
    return probe(cluster, OUTSIDE, gateway_door(cluster) + path, headers=headers)


def _knock(cluster: Cluster) -> tuple[Any, ...]:
    return (probe(cluster, OUTSIDE, gateway_pod(cluster)),)


def _echo(cluster: Cluster) -> tuple[Any, ...]:
    return _ask(cluster, headers=ECHO), _ask(cluster)


def _readiness(cluster: Cluster) -> tuple[Any, ...]:
    return _ask(cluster, "probe"), _ask(cluster, "healthz/ready")


def _page(cluster: Cluster) -> tuple[Any, ...]:
    return mode_of(take_snapshot(cluster), APP), _ask(cluster)


def _both(cluster: Cluster) -> tuple[Any, ...]:
    return *_page(cluster), _ask(cluster, headers=CUSTOMERS)


def _api(cluster: Cluster) -> tuple[Any, ...]:
    return _ask(cluster, "list", API), _ask(cluster, headers=API)


def _left(cluster: Cluster) -> tuple[Any, ...]:
    ours = [*cluster.objects(DEPLOYMENT, APP), *cluster.objects("VirtualService", APP)]
    ours += [*cluster.objects("VirtualService", "echo"), *cluster.objects("Gateway", "echo")]
    ours += [one for one in cluster.objects("VirtualService") if name_of(one) == "probe"]
    return *_knock(cluster), [name_of(one) for one in ours]


def closed(seen: Observation) -> Judgement:
    """Nobody listens on port 80 of the gateway."""
    hint = "Is there a Gateway left? lab.reset('07') starts again."
    return Judgement(seen.exit_code == REFUSED, "connection refused by the gateway's pod", _seen(seen), hint)


def open_no_route(seen: Observation) -> Judgement:
    """Somebody listens and has no route."""
    good = seen.http_status == 404 and not seen.body.strip()
    return Judgement(good, "404 from the gateway itself", _seen(seen), "Apply manifests/lessons/07/gateway.yaml.")


def echo(named: Observation, unnamed: Observation) -> Judgement:
    """echoserver is reached by its host, and by no other."""
    good = named.http_status == 200 and "host: echo.example.com" in named.body and unnamed.http_status == 404
    observed = f"echo.example.com: {_seen(named)}; another host: {unnamed.seen}"
    hint = "Apply manifests/lessons/07/echo.yaml, and ask with the header Host: echo.example.com."
    return Judgement(good, "echo.example.com: 200 from echoserver; another host: 404", observed, hint)


def readiness(asked: Observation, direct: Observation) -> Judgement:
    """/probe is answered by the agent of the gateway; its own path leads nowhere."""
    good = asked.http_status == 200 and direct.http_status == 404
    observed = f"/probe: {asked.seen}; /healthz/ready: {direct.seen}"
    hint = "Apply manifests/lessons/07/root/probe.yaml in the gateway's namespace."
    return Judgement(good, "/probe: 200; /healthz/ready: 404", observed, hint)


def plain_frontend(pods: Any) -> Judgement:
    """web-frontend runs without a sidecar."""
    ready = _ready(pods)
    hint = "Apply web-frontend.yaml before you label the namespace; then wait for it."
    good = ready == {"web-frontend": "1/1"} or ready == {"web-frontend": "1/1", "customers-v1": "2/2"}
    return Judgement(good, "web-frontend 1/1", ready_words(ready), hint)


def injected_customers(pods: Any) -> Judgement:
    """customers runs with a sidecar beside a web-frontend without one."""
    ready = _ready(pods)
    good = ready == {"web-frontend": "1/1", "customers-v1": "2/2"}
    hint = "Label the namespace, then apply customers.yaml; a pod that runs already stays as it is."
    return Judgement(good, "web-frontend 1/1, customers-v1 2/2", ready_words(ready), hint)


def page(mode: str, seen: Observation) -> Judgement:
    """The page shows the customers while customers takes plaintext."""
    good = mode == "PERMISSIVE" and seen.http_status == 200 and FIRST in seen.body
    hint = "Apply manifests/lessons/07/page.yaml, and let no PeerAuthentication be in the way."
    return Judgement(good, f"mode PERMISSIVE, and a page with {FIRST}", f"mode {mode}; {_seen(seen)}", hint)


def unknown_caller(samples: Iterable[Sample]) -> Judgement:
    """customers counts requests of somebody whom it cannot name."""
    found = _callers(samples)
    hint = "Load the page a few times: lab.loop('default/curl-outside', door)."
    return Judgement(("unknown", "none") in found, "to customers: source unknown, security none", _list(found), hint)


def direct(mode: str, shown: Observation, asked: Observation) -> Judgement:
    """customers is reached past the page, by its host."""
    good = _is_list(asked) and shown.http_status == 200
    observed = f"customers.example.com: {_seen(asked)}; the page: {shown.seen}"
    hint = "Apply manifests/lessons/07/customers.yaml, and ask with the header Host: customers.example.com."
    return Judgement(good, "customers.example.com: 200 and the list; the page: 200", observed, hint)


def one_padlock(samples: Iterable[Sample]) -> Judgement:
    """The gateway is known by mTLS, the other source is not."""
    found = _callers(samples)
    good = ("istio-ingressgateway", "mutual_tls") in found and ("unknown", "none") in found
    expected = "to customers: istio-ingressgateway by mutual_tls, and unknown by none"
    return Judgement(good, expected, _list(found), "Send both loops: the page, and Host: customers.example.com.")


def page_breaks(mode: str, shown: Observation, asked: Observation) -> Judgement:
    """STRICT cuts web-frontend off; the gateway goes on."""
    good = mode == "STRICT" and shown.http_status == 502 and "ECONNRESET" in shown.body and _is_list(asked)
    observed = f"mode {mode}; the page: {_reason(shown)}; customers.example.com: {asked.seen}"
    hint = "Apply manifests/lessons/07/strict.yaml while web-frontend has no sidecar."
    return Judgement(good, "mode STRICT; the page: 502, ECONNRESET; customers.example.com: 200", observed, hint)


def page_returns(mode: str, shown: Observation, asked: Observation) -> Judgement:
    """Without the policy both work."""
    good = mode == "PERMISSIVE" and FIRST in shown.body and _is_list(asked)
    observed = f"mode {mode}; the page: {_reason(shown)}; customers.example.com: {asked.seen}"
    hint = "lab.delete('manifests/lessons/07/strict.yaml')"
    return Judgement(good, "mode PERMISSIVE; the page: 200; customers.example.com: 200", observed, hint)


def second_door(_attempt: Any, listed: Observation, other: Observation) -> Judgement:
    """/list of another host leads to customers, rewritten."""
    good = _is_list(listed) and other.http_status == 404
    observed = f"api.example.com/list: {_seen(listed)}; api.example.com/: {other.seen}"
    hint = "Which gateways does this VirtualService listen to? Without the right one it is for sidecars, or for nobody."
    return Judgement(good, "api.example.com/list: 200 and the list; api.example.com/: 404", observed, hint)


def cleaned_up(seen: Observation, left: list[str]) -> Judgement:
    """The door is closed again, and nothing of the lesson is left."""
    good = seen.exit_code == REFUSED and not left
    observed = f"{_seen(seen)}; left: {', '.join(left) or 'nothing'}"
    hint = "Delete the application, manifests/lessons/07 and manifests/lessons/07/root."
    return Judgement(
        good, "nobody listens; no Gateway, VirtualService or Deployment of this lesson is left", observed, hint
    )


def _callers(samples: Iterable[Sample]) -> list[tuple[str, str]]:
    """(source, security policy) of what customers' own sidecar counted."""
    return sorted(
        {
            (str(one.labels.get("source_workload")), str(one.labels.get("connection_security_policy")))
            for one in samples
            if one.name == metrics.REQUESTS and one.labels.get("reporter") == "destination"
        }
    )


def _list(callers: list[tuple[str, str]]) -> str:
    return "; ".join(f"source {source}, security {policy}" for source, policy in callers) or "no requests counted"


def _is_list(seen: Observation) -> bool:
    return seen.http_status == 200 and seen.json() is not None and FIRST in seen.body


def _ready(pods: Any) -> dict[str, str]:
    return ready_of(pods, ("web-frontend", "customers-v1"))


def _reason(seen: Observation) -> str:
    return f"{seen.seen}{', ECONNRESET' if 'ECONNRESET' in seen.body else ''}"


def _seen(seen: Observation) -> str:
    return " ".join(f"{seen.seen} {'' if '<' in seen.body else seen.body}".split())[:160]


CHECKS = (
    Check("07-closed", LOOKS, closed, _knock),
    Check("07-open-no-route", LOOKS, open_no_route, _knock),
    Check("07-echo", LOOKS, echo, _echo),
    Check("07-readiness", LOOKS, readiness, _readiness),
    Check("07-plain-frontend", LOOKS, plain_frontend, pods_of(APP)),
    Check("07-injected-customers", LOOKS, injected_customers, pods_of(APP)),
    Check("07-page", LOOKS, page, _page),
    Check("07-unknown-caller", LOOKS, unknown_caller, counted_in(APP)),
    Check("07-direct", LOOKS, direct, _both),
    Check("07-one-padlock", LOOKS, one_padlock, counted_in(APP)),
    Check("07-page-breaks", LOOKS, page_breaks, _both),
    Check("07-page-returns", LOOKS, page_returns, _both),
    Check("07-second-door", RETURNED, second_door, _api, exercise=True),
    Check("07-cleaned-up", LOOKS, cleaned_up, _left),
)
