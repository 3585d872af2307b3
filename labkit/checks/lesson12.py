"""The checks of lesson 12: calls to hosts and machines outside of the mesh."""

from __future__ import annotations

from typing import Any

from labkit.checks.evidence import CALLER, LOOKS, RETURNED
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.observe.objects import find_workload
from labkit.observe.traffic import probe
from labkit.outcomes import Observation

NAMESPACE = "callers"
HOST, LEDGER, ARCHIVE = "api.partner.example", "ledger.example", "archive.example"


def _call(cluster: Cluster, host: str) -> Observation:
    return probe(cluster, CALLER, f"http://{host}/")


def _by_address(cluster: Cluster) -> Observation:
    pod = find_workload(cluster, "echo/echoserver").ready_pod()
    return _call(cluster, f"{pod['status']['podIP']}:8080")


def _out(cluster: Cluster) -> tuple[Any, ...]:
    return (_by_address(cluster),)


def _both(cluster: Cluster) -> tuple[Any, ...]:
    return _by_address(cluster), _call(cluster, "echoserver.echo:8080"), _call(cluster, HOST)


def _entry(cluster: Cluster) -> tuple[Any, ...]:
    return cluster.find("ServiceEntry", "partner", NAMESPACE), _call(cluster, HOST)


def _ledger(cluster: Cluster) -> tuple[Any, ...]:
    names = ("WorkloadGroup", "ledger"), ("WorkloadEntry", "ledger-1")
    return (*(cluster.find(kind, name, NAMESPACE) for kind, name in names), _call(cluster, LEDGER))


def _archive(cluster: Cluster) -> tuple[Any, ...]:
    return cluster.find("ServiceEntry", "archive", NAMESPACE), _call(cluster, ARCHIVE)


def passes(seen: Observation) -> Judgement:
    """What nobody registered is let out."""
    hint = "Is the mesh REGISTRY_ONLY? lab.configure_mesh() gives it the defaults."
    return Judgement(seen.http_status == 200, "200 from an address that nobody registered", seen.seen, hint)


def blocked(address: Observation, service: Observation, host: Observation) -> Judgement:
    """What nobody registered is led nowhere; a Service goes on."""
    good = address.http_status == 502 and service.http_status == 200 and host.http_status == 502
    observed = f"the address: {address.seen}; echoserver.echo: {service.seen}; {HOST}: {host.seen}"
    hint = 'lab.configure_mesh(set=["meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY"]), and no ServiceEntry yet.'
    return Judgement(good, f"the address: 502; echoserver.echo: 200; {HOST}: 502", observed, hint)


def registered(entry: Any, seen: Observation) -> Judgement:
    """A ServiceEntry with an address leads there."""
    good = _resolution(entry) == "STATIC" and _reached(seen, HOST)
    hint = "Apply manifests/lessons/12/static.yaml with the machine's address in place of ADDRESS."
    return Judgement(good, f"STATIC, and {HOST}: 200", f"{_resolution(entry)}; {seen.seen}", hint)


def by_name(entry: Any, seen: Observation) -> Judgement:
    """A ServiceEntry with a name leads where DNS says."""
    good = _resolution(entry) == "DNS" and _reached(seen, HOST)
    hint = "Apply manifests/lessons/12/dns.yaml."
    return Judgement(good, f"DNS, and {HOST}: 200", f"{_resolution(entry)}; {seen.seen}", hint)


def plain_refused(entry: Any, seen: Observation) -> Judgement:
    """Plaintext meets a server that waits for TLS."""
    good = _target(entry) == 443 and seen.http_status == 503
    hint = "Apply partner.yaml and https.yaml of manifests/lessons/12, and no DestinationRule yet."
    return Judgement(good, "port 443 behind the host, and 503", f"port {_target(entry)}; {seen.seen}", hint)


def originated(entry: Any, seen: Observation) -> Judgement:
    """curl sends http, the partner receives https."""
    good = _target(entry) == 443 and _reached(seen, HOST) and "x-forwarded-proto: https" in seen.body
    how = "https" if "x-forwarded-proto: https" in seen.body else "http"
    hint = "Put the partner's authority into the Secret partner-ca of callers, and apply originate.yaml."
    return Judgement(good, "200, and the partner received https", f"{seen.seen}, the partner received {how}", hint)


def group_alone(group: Any, machine: Any, seen: Observation) -> Judgement:
    """A template, and no machine of it."""
    good = bool(group) and not machine and seen.http_status == 503
    return Judgement(
        good,
        "a WorkloadGroup, no WorkloadEntry, and 503",
        f"{_there(group, machine)}; {seen.seen}",
        "Apply manifests/lessons/12/group.yaml, and no machine yet.",
    )


def one_machine(group: Any, machine: Any, seen: Observation) -> Judgement:
    """A machine of the group answers."""
    good = bool(group) and bool(machine) and _reached(seen, LEDGER)
    hint = "Apply manifests/lessons/12/machine.yaml with the machine's address in place of ADDRESS."
    return Judgement(good, "a WorkloadGroup, a WorkloadEntry, and 200", f"{_there(group, machine)}; {seen.seen}", hint)


def archived(_attempt: Any, entry: Any, seen: Observation) -> Judgement:
    """The entry stays as it is, and proxies send no mTLS."""
    endpoints = ((entry or {}).get("spec") or {}).get("endpoints") or [{}]
    good = _reached(seen, ARCHIVE) and endpoints[0].get("serviceAccount") == "archive"
    hint = "With an account the machine counts as part of the mesh. Which location says that it is not?"
    return Judgement(good, f"{ARCHIVE}: 200, with the account still there", seen.seen, hint)


def _reached(seen: Observation, host: str) -> bool:
    return seen.http_status == 200 and f"host: {host}" in seen.body


def _resolution(entry: Any) -> str:
    return str(((entry or {}).get("spec") or {}).get("resolution") or "no ServiceEntry")


def _target(entry: Any) -> Any:
    ports = ((entry or {}).get("spec") or {}).get("ports") or [{}]
    return ports[0].get("targetPort", "unknown")


def _there(group: Any, machine: Any) -> str:
    names = [name for name, found in (("WorkloadGroup", group), ("WorkloadEntry", machine)) if found]
    return " and ".join(names) or "neither group nor machine"


CHECKS = (
    Check("12-passes", LOOKS, passes, _out),
    Check("12-blocked", LOOKS, blocked, _both),
    Check("12-registered", LOOKS, registered, _entry),
    Check("12-by-name", LOOKS, by_name, _entry),
    Check("12-plain-refused", LOOKS, plain_refused, _entry),
    Check("12-originated", LOOKS, originated, _entry),
    Check("12-group-alone", LOOKS, group_alone, _ledger),
    Check("12-machine", LOOKS, one_machine, _ledger),
    Check("12-archive", RETURNED, archived, _archive, exercise=True),
    Check("12-open-again", LOOKS, passes, _out),
)
