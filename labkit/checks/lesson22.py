"""The checks of lesson 22: the mesh's settings, and what they do to a request."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any

import yaml

from labkit.checks.evidence import CALLER, LOOKS, RETURNED, told
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.cluster.kinds import CONFIGMAP
from labkit.observe.mesh import mesh_status
from labkit.observe.objects import PROXY, find_workload, name_of
from labkit.observe.proxy import certificate
from labkit.observe.traffic import probe
from labkit.outcomes import Observation, Outcome
from labkit.pki import CertificateFacts

SERVER, URL = "echo/echoserver", "http://echoserver.echo:8080/"
_ASKED = itertools.count(1)


def _settings(cluster: Cluster) -> dict[str, Any]:
    status = mesh_status(cluster)
    name = "istio" if status.revision in ("", "default") else f"istio-{status.revision}"
    found = cluster.find(CONFIGMAP, name, status.namespace) if status.namespace else None
    return dict(yaml.safe_load((found or {"data": {}})["data"].get("mesh") or "") or {})


def _line(cluster: Cluster) -> str:
    """What the server's proxy logs of one request, or nothing."""
    path = f"check-{time.time_ns()}-{next(_ASKED)}"
    probe(cluster, CALLER, URL + path)
    pod = find_workload(cluster, SERVER).ready_pod()
    # Envoy writes at once here, and every ten seconds elsewhere.
    until = time.monotonic() + (1.0 if cluster.is_embedded else 12.0)
    while True:
        log = cluster.logs(name_of(pod), "echo", container=PROXY, tail=100)
        found = next((line for line in log.splitlines() if path in line), "")
        if found or time.monotonic() > until:
            return found.replace(path, "...")
        time.sleep(0.1)


def _logged(cluster: Cluster) -> tuple[Any, ...]:
    return _settings(cluster), _line(cluster)


def _sent(cluster: Cluster) -> tuple[Any, ...]:
    return _settings(cluster), probe(cluster, CALLER, URL)


def _certificate(cluster: Cluster) -> tuple[Any, ...]:
    return (certificate(cluster, CALLER), probe(cluster, CALLER, URL))


def settings(found: Mapping[str, Any], line: str) -> Judgement:
    """The ConfigMap says what holds: the access log is on, and there is a line."""
    good = found.get("accessLogFile") == "/dev/stdout" and bool(found.get("rootNamespace")) and bool(line)
    observed = f"accessLogFile: {found.get('accessLogFile')!r}; {'a line' if line else 'no line'} for a request"
    hint = "lab.reset('22') gives the mesh its default settings."
    return Judgement(good, "accessLogFile: /dev/stdout, and a line for a request", observed, hint)


def names_caller(found: Mapping[str, Any], line: str) -> Judgement:
    """The proxies log in the format that the IstioOperator gave: with the caller's identity."""
    good = "accessLogFormat" in found and "from spiffe://" in line and "/ns/callers/sa/curl" in line
    hint = "lab.configure_mesh('manifests/lessons/22/root/operator.yaml')"
    return Judgement(good, "a line that names spiffe://.../ns/callers/sa/curl", line[:160] or "no line", hint)


def silent(found: Mapping[str, Any], line: str) -> Judgement:
    """Nothing is logged any more."""
    good = found.get("accessLogFile") == "" and not line
    hint = "lab.configure_mesh({'meshConfig': {'accessLogFile': ''}})"
    return Judgement(good, "no line for a request", line[:160] or f"no line; {found.get('accessLogFile')!r}", hint)


def without_auto(found: Mapping[str, Any], seen: Observation) -> Judgement:
    """Clients send plaintext, and a STRICT server refuses it."""
    good = found.get("enableAutoMtls") is False and seen.http_status == 503
    observed = f"enableAutoMtls: {found.get('enableAutoMtls')}; {seen.seen}"
    hint = "Apply the mesh-wide STRICT, then lab.configure_mesh(set=['meshConfig.enableAutoMtls=false'])."
    return Judgement(good, "enableAutoMtls: False; HTTP 503", observed, hint)


def defaults(found: Mapping[str, Any], seen: Observation) -> Judgement:
    """Auto mTLS is back, and so is the answer."""
    good = found.get("enableAutoMtls") is not False and seen.http_status == 200 and seen.outcome is Outcome.MTLS
    observed = f"enableAutoMtls: {found.get('enableAutoMtls')}; {told(seen)}"
    return Judgement(good, "enableAutoMtls: True; HTTP 200 by mTLS", observed, "lab.configure_mesh() names nothing.")


def own_domain(_attempt: Any, facts: CertificateFacts, seen: Observation) -> Judgement:
    """Identities begin with the learner's trust domain, and mTLS goes on."""
    good = facts.spiffe_id.startswith("spiffe://shop.example/") and seen.outcome is Outcome.MTLS
    observed = f"{facts.spiffe_id}; {told(seen)}"
    return Judgement(good, "spiffe://shop.example/...; answered by mTLS", observed, "Write the domain alone.")


CHECKS = (
    Check("22-settings", LOOKS, settings, _logged),
    Check("22-names-caller", LOOKS, names_caller, _logged),
    Check("22-silent", LOOKS, silent, _logged),
    Check("22-without-auto", LOOKS, without_auto, _sent),
    Check("22-defaults", LOOKS, defaults, _sent),
    Check("22-own-domain", RETURNED, own_domain, _certificate, exercise=True),
)
