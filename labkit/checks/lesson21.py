"""The checks of lesson 21: a gateway behind a load balancer. `curl-outside` sends what a load balancer passes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.checks.evidence import LOOKS, OUTSIDE, RETURNED
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.cluster.kinds import SERVICE
from labkit.errors import InputError
from labkit.installers.gateway import gateway_address
from labkit.observe.traffic import probe
from labkit.observe.visiting import Papers, door_of, visit
from labkit.outcomes import Observation, Outcome
from labkit.pki.folder import folder_of

GATEWAY, HOST, SECOND, CA = "istio-ingress", "shop.example.com", "status.example.com", "example.com"
DOOR = f"http://{GATEWAY}.{GATEWAY}:443/"
FRONTEND = "http://frontend.workshop:9000/"
AWS = "service.beta.kubernetes.io/aws-load-balancer-"


def _passed_on(cluster: Cluster, host: str = HOST) -> Observation:
    """What a load balancer sends after it has taken TLS off: HTTP, to port 443."""
    return probe(cluster, OUTSIDE, DOOR, headers={"Host": host})


def _by_tls(cluster: Cluster) -> Observation:
    """A visitor who speaks TLS with the gateway itself."""
    folder = folder_of(cluster.name)
    if not folder.has(CA):
        raise InputError("Nothing was minted yet.", next_step="Mint an authority: ca = lab.mint_ca('example.com').")
    door = door_of(gateway_address(cluster, namespace=GATEWAY, name=GATEWAY).url("https"))
    return visit(f"https://{HOST}/", door, Papers(folder.certificate(CA)))


def _doors(cluster: Cluster) -> tuple[Any, ...]:
    return _by_tls(cluster), _passed_on(cluster)


def _annotations(cluster: Cluster) -> tuple[Any, ...]:
    service = cluster.find(SERVICE, GATEWAY, GATEWAY) or {"metadata": {}}
    return (service["metadata"].get("annotations") or {},)


def _behind(cluster: Cluster) -> tuple[Any, ...]:
    return _passed_on(cluster), probe(cluster, OUTSIDE, FRONTEND)


def _second(cluster: Cluster) -> tuple[Any, ...]:
    return (_passed_on(cluster, SECOND),)


def gateway_takes_tls(by_tls: Observation, passed_on: Observation) -> Judgement:
    """TLS is answered at the gateway, and HTTP on the same port is not."""
    good = by_tls.http_status == 200 and passed_on.http_status is None and passed_on.outcome is Outcome.REFUSED
    hint = "Apply manifests/lessons/21/gateway-takes-tls.yaml; its Secret stands in istio-ingress."
    return Judgement(good, "port 443: TLS 200, HTTP no answer", f"TLS {by_tls.seen}, HTTP {passed_on.seen}", hint)


def annotated(annotations: Mapping[str, str]) -> Judgement:
    """The Service names a certificate, and the port on which TLS is taken off."""
    wanted = {key: annotations.get(f"{AWS}{key}", "") for key in ("ssl-cert", "backend-protocol", "ssl-ports")}
    good = wanted["ssl-cert"].startswith("arn:aws") and ":acm:" in wanted["ssl-cert"]
    good = good and wanted["backend-protocol"] == "tcp" and wanted["ssl-ports"] == "https"
    observed = ", ".join(f"{key}: {value}" for key, value in wanted.items() if value) or "no such annotations"
    hint = "lab.annotate('service/istio-ingress', {...}, 'istio-ingress')"
    return Judgement(good, "a certificate of ACM, backend tcp, ssl-ports https", observed, hint)


def behind_load_balancer(by_tls: Observation, passed_on: Observation) -> Judgement:
    """The gateway takes what the load balancer sends, and no TLS any more."""
    good = passed_on.http_status == 200 and by_tls.http_status is None
    hint = "Apply manifests/lessons/21/gateway-behind-load-balancer.yaml: port 443, protocol HTTP."
    return Judgement(good, "port 443: HTTP 200, TLS no answer", f"TLS {by_tls.seen}, HTTP {passed_on.seen}", hint)


def mtls_behind(passed_on: Observation, direct: Observation) -> Judgement:
    """Through the door one is answered; past it one is reset."""
    good = passed_on.http_status == 200 and direct.exit_code == 56
    observed = f"through the door {passed_on.seen}; past it {direct.seen}"
    hint = "Apply manifests/lessons/21/root/strict.yaml into the mesh's root namespace."
    return Judgement(good, "through the door 200; past it reset, exit code 56", observed, hint)


def second_host(_attempt: Any, passed_on: Observation) -> Judgement:
    """The learner's Gateway takes HTTP on port 443."""
    hint = "What arrives is what the load balancer leaves: no TLS. A Gateway's protocol says what arrives."
    return Judgement(passed_on.http_status == 200, f"{SECOND} on port 443: HTTP 200", passed_on.seen, hint)


CHECKS = (
    Check("21-gateway-takes-tls", LOOKS, gateway_takes_tls, _doors),
    Check("21-annotated", LOOKS, annotated, _annotations),
    Check("21-behind-load-balancer", LOOKS, behind_load_balancer, _doors),
    Check("21-mtls-behind", LOOKS, mtls_behind, _behind),
    Check("21-second-host", RETURNED, second_host, _second, exercise=True),
)
