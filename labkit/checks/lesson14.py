"""The checks of lesson 14: what each of six kinds changes, seen in answers, logs and proxies."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from labkit.checks.evidence import CALLER, LOOKS, RETURNED, Collect
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.course.lesson14 import ISSUER
from labkit.observe.objects import PROXY, find_workload, name_of
from labkit.observe.proxy import config_dump, server_facts
from labkit.observe.traffic import probe
from labkit.outcomes import Observation, Outcome
from labkit.pki.folder import folder_of
from labkit.pki.tokens import TokenIssuer, issuer_in

URL = "http://visits.visits:8080/"
IDENTITY = "spiffe://cluster.local/ns/callers/sa/curl"
LOG_SECONDS = 3.0  # proxies write their log once a second at the latest
HEADER = "x-certificate"
SERVED = "x-served-by"


def _issuer(cluster: Cluster) -> TokenIssuer:
    """Whoever has not made the issuer yet gets one whose tokens nobody takes."""
    return issuer_in(folder_of(cluster.name), ISSUER) or TokenIssuer(ISSUER)


def _tokens(cluster: Cluster) -> tuple[Any, ...]:
    return _with_tokens(cluster, URL)


def _with_tokens(cluster: Cluster, url: str, user: str = "alice") -> tuple[Any, ...]:
    """curl's calls without a token, with a good one and with a forged one, in this order."""
    issuer = _issuer(cluster)
    sent: tuple[dict[str, str], ...] = ({}, issuer.token(user).header, issuer.forged(user).header)
    return tuple(probe(cluster, CALLER, url, headers=headers) for headers in sent)


def _log(workload: str) -> Collect:
    """What the log of a workload's proxy keeps of curl's calls."""
    return lambda cluster: _logged(cluster, workload)


def _logged(cluster: Cluster, workload: str) -> tuple[Any, ...]:
    """Two requests with names of their own, a good one and then a bad one, and the log once it has the bad one."""
    good, bad = (f"/{word}-{secrets.token_hex(4)}" for word in ("good", "bad"))
    probe(cluster, CALLER, f"{URL.rstrip('/')}/?{good[1:]}")
    probe(cluster, CALLER, URL.rstrip("/") + bad)
    pod = find_workload(cluster, workload).ready_pod()
    namespace = workload.partition("/")[0]

    deadline = time.monotonic() + LOG_SECONDS
    while bad not in (log := cluster.logs(name_of(pod), namespace, container=PROXY, tail=200)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return good[1:] in log, bad in log


def _call(cluster: Cluster) -> tuple[Any, ...]:
    return (probe(cluster, CALLER, URL),)


def _private(cluster: Cluster) -> tuple[Any, ...]:
    other = _call(cluster)  # first, so that the log that the lesson reads next ends in the forged token
    return *_with_tokens(cluster, f"{URL}private", "bob"), *other


def _threads(workload: str) -> Collect:
    """With how many threads a workload's proxy was started, and the ProxyConfigs of its namespace."""
    return lambda cluster: _threads_of(cluster, workload)


def _threads_of(cluster: Cluster, workload: str) -> tuple[Any, ...]:
    namespace = workload.partition("/")[0]
    configs = [name_of(one) for one in cluster.objects(cluster.kind("proxyconfig"), namespace)]
    return server_facts(cluster, find_workload(cluster, workload).ready_pod())[2], configs


def _told(cluster: Cluster) -> tuple[Any, ...]:
    return known_namespaces(str(config_dump(cluster, CALLER))), *_call(cluster)


def known_namespaces(dump: str) -> set[str]:
    """The namespaces whose services a proxy has been told of."""
    return set(re.findall(r"outbound\|\d+\|[^|]*\|[\w-]+\.([\w-]+)\.svc\.", dump))


def tokens(none: Observation, good: Observation, forged: Observation) -> Judgement:
    """No token passes, a good one passes, a forged one does not."""
    observed = f"none: {none.seen}; alice's: {good.seen}; forged: {forged.seen}"
    passed = none.http_status == good.http_status == 200 and forged.http_status == 401
    hint = "The jwks has to be that of lab.token_issuer('lab-issuer'), and the issuer's name the same."
    return Judgement(passed, "no token: 200; alice's token: 200; a forged one: 401", observed, hint)


def errors_alone(good: bool, bad: bool) -> Judgement:
    """The log has the request that failed, and not the one that was answered."""
    words = {True: "in the log", False: "not in the log"}
    observed = f"an answer 200: {words[good]}; an error: {words[bad]}"
    hint = "Apply manifests/lessons/14/telemetry.yaml."
    return Judgement(bad and not good, "an answer 200: not in the log; an error: in the log", observed, hint)


def lua(seen: Observation) -> Judgement:
    """The answer names the caller, as the server's proxy knows it."""
    observed = f"{HEADER}: {seen.headers.get(HEADER, 'no such header')}"
    hint = "Apply manifests/lessons/14/envoy-filter.yaml. A caller without mTLS is 'nobody'."
    return Judgement(seen.headers.get(HEADER) == IDENTITY, f"{HEADER}: {IDENTITY}", observed, hint)


def wasm(seen: Observation) -> Judgement:
    """The module has added its header, with its configuration."""
    value = seen.headers.get("x-wasm-plugin", "no such header")
    hint = "The url has to be what lab.module_url('assets/wasm/response-header.wasm') says."
    return Judgement("hello from Wasm" in value, "x-wasm-plugin with the greeting", f"x-wasm-plugin: {value}", hint)


def threads(number: int, configs: list[str]) -> Judgement:
    """The proxy of curl was started with three threads, as a ProxyConfig says."""
    observed = f"threads: {number}; ProxyConfig: {', '.join(configs) or 'none'}"
    hint = "Apply manifests/lessons/14/proxy-config.yaml, and then start curl anew: lab.restart('callers/curl')."
    return Judgement(number == 3 and bool(configs), "threads: 3, by a ProxyConfig", observed, hint)


def told_less(namespaces: set[str], seen: Observation) -> Judgement:
    """The proxy does not know visits, and what is sent there carries no certificate."""
    shown = seen.headers.get(HEADER, "nothing of the kind")
    observed = f"{_told_of(namespaces)}; the call: {seen.seen}, {HEADER}: {shown}"
    good = namespaces <= {"callers"} and seen.http_status == 200 and shown == "nobody"
    hint = "Apply manifests/lessons/14/sidecar.yaml. The header comes from the EnvoyFilter."
    return Judgement(good, f"told of callers alone; the call: HTTP 200, {HEADER}: nobody", observed, hint)


def scope(_attempt: Any, namespaces: set[str], seen: Observation) -> Judgement:
    """The proxy knows visits again, and not everything: mTLS is back."""
    observed = f"{_told_of(namespaces)}; the call: {seen.seen}, {seen.outcome}"
    good = namespaces in ({"visits"}, {"callers", "visits"}) and seen.outcome is Outcome.MTLS
    hint = "An entry of hosts is namespace/name, and * stands for all names."
    return Judgement(good, "told of visits, of nothing outside callers and visits; the call: mTLS", observed, hint)


def demand(_attempt: Any, none: Observation, good: Observation, forged: Observation, other: Observation) -> Judgement:
    """Without a token there is no /private, with a good one there is, and all else is open as before."""
    observed = f"/private with none: {none.seen}; bob's: {good.seen}; forged: {forged.seen}; / with none: {other.seen}"
    statuses = [one.http_status for one in (none, good, forged, other)]
    hint = "The RequestAuthentication has to be there, and the policy to deny whoever has no principal at all."
    expected = "/private with no token: 403; bob's: 404; a forged one: 401; / with none: 200"
    return Judgement(statuses == [403, 404, 401, 200], expected, observed, hint)


def not_found(_attempt: Any, good: bool, bad: bool) -> Judgement:
    """curl's own proxy keeps a 404, and no 200."""
    words = {True: "in the log", False: "not in the log"}
    observed = f"a 200: {words[good]}; a 404: {words[bad]}"
    hint = "An expression compares response.code with a number: == is one number, >= is from there on."
    return Judgement(bad and not good, "a 200: not in the log; a 404: in the log", observed, hint)


def say_server(_attempt: Any, seen: Observation) -> Judgement:
    """The proxy of visits has added a header to the answer."""
    value = seen.headers.get(SERVED, "no such header")
    hint = "The request comes in to visits: its context is that of a sidecar's inbound side."
    return Judgement(value == "visits", f"{SERVED}: visits", f"{SERVED}: {value}", hint)


def greeting(_attempt: Any, seen: Observation) -> Judgement:
    """The module says what its new configuration says."""
    value = seen.headers.get("x-wasm-plugin", "no such header")
    hint = "The greeting is text: good morning."
    return Judgement("good morning" in value, "x-wasm-plugin: good morning", f"x-wasm-plugin: {value}", hint)


def four_threads(_attempt: Any, number: int, configs: list[str]) -> Judgement:
    """The proxy of visits was started with four threads, as a ProxyConfig says."""
    observed = f"threads: {number}; ProxyConfig: {', '.join(configs) or 'none'}"
    hint = "concurrency is a number, and it is read when the pod starts: lab.restart('visits/visits')."
    return Judgement(number == 4 and bool(configs), "threads: 4, by a ProxyConfig", observed, hint)


def _told_of(namespaces: set[str]) -> str:
    return f"told of services in {', '.join(sorted(namespaces)) or 'no namespace'}"


CHECKS = (
    Check("14-tokens", LOOKS, tokens, _tokens),
    Check("14-errors-alone", LOOKS, errors_alone, _log("visits/visits")),
    Check("14-lua", LOOKS, lua, _call),
    Check("14-wasm", LOOKS, wasm, _call),
    Check("14-threads", LOOKS, threads, _threads(CALLER)),
    Check("14-told-less", LOOKS, told_less, _told),
    Check("14-demand", RETURNED, demand, _private, exercise=True),
    Check("14-not-found", RETURNED, not_found, _log(CALLER), exercise=True),
    Check("14-say-server", RETURNED, say_server, _call, exercise=True),
    Check("14-greeting", RETURNED, greeting, _call, exercise=True),
    Check("14-four-threads", RETURNED, four_threads, _threads("visits/visits"), exercise=True),
    Check("14-scope", RETURNED, scope, _told, exercise=True),
)
