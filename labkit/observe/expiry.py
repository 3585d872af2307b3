"""The certificates of a mesh as its proxies hold them right now: workloads, gateways' credentials, and the roots."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import POD
from labkit.errors import LabError
from labkit.observe.dumps import Dump
from labkit.observe.dumps.secrets import CA, Held, held
from labkit.observe.objects import is_finished, is_gateway, is_injected, is_terminating, name_of, namespace_of
from labkit.observe.presented import mesh_root
from labkit.observe.proxy import ask_pod
from labkit.pki import CertificateFacts, describe_chain
from labkit.pki.expiry import WARN_BEFORE, State, say_duration, state_of

AT_ONCE = 4
OWN, ROOT = "default", "ROOTCA"
COLUMNS = ("HOLDER", "KIND", "IDENTITY", "ISSUER", "NOT AFTER", "LEFT", "STATE")

WORKLOAD, CREDENTIAL, ROOTS = "workload", "gateway credential", "root"


@dataclass(frozen=True)
class Expiring:
    """One certificate, or one that is missing."""

    holder: str
    kind: str
    state: State
    certificate: CertificateFacts | None = None
    note: str = ""

    @property
    def identity(self) -> str:
        """The SPIFFE ID, else the DNS names, else the subject."""
        one = self.certificate
        if one is None:
            return ""
        return one.spiffe_id or ", ".join(one.dns_names) or one.subject

    def row(self, now: datetime) -> tuple[str, ...]:
        """The cells of COLUMNS."""
        one = self.certificate
        told = f"{self.state}: {self.note}" if self.note else str(self.state)
        if one is None:
            return self.holder, self.kind, "", "", "", "", told
        until = f"{one.not_after:%Y-%m-%dT%H:%M:%SZ}"
        return self.holder, self.kind, self.identity, one.issuer, until, say_duration(one.remaining(now)), told

    def as_dict(self, now: datetime) -> dict[str, object]:
        """For JSON."""
        one = self.certificate
        return {
            "holder": self.holder,
            "kind": self.kind,
            "identity": self.identity,
            "issuer": one.issuer if one else "",
            "serial": one.serial if one else "",
            "notBefore": f"{one.not_before:%Y-%m-%dT%H:%M:%SZ}" if one else "",
            "notAfter": f"{one.not_after:%Y-%m-%dT%H:%M:%SZ}" if one else "",
            "secondsLeft": int(one.remaining(now).total_seconds()) if one else None,
            "state": str(self.state),
            "note": self.note,
        }


def read_expiring(
    cluster: Cluster, namespaces: Iterable[str], now: datetime, warn_before: timedelta = WARN_BEFORE
) -> list[Expiring]:
    """The certificates of every proxy, in some namespaces or in all; each root once, with how many trust it."""
    wanted = set(namespaces)
    pods = [
        pod
        for pod in cluster.objects(POD)
        if is_injected(pod) and not is_finished(pod) and not is_terminating(pod)
        if not wanted or namespace_of(pod) in wanted
    ]
    if not pods:
        return []
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="certificates") as pool:
        answers = list(pool.map(lambda pod: _ask(cluster, pod), pods))
    found: list[Expiring] = []
    roots: dict[str, tuple[CertificateFacts, list[str]]] = {}
    for pod, answer in zip(pods, answers, strict=True):
        where = f"{namespace_of(pod)}/{name_of(pod)}"
        if isinstance(answer, LabError):
            found.append(Expiring(where, WORKLOAD, State.UNKNOWN, note=answer.what))
            continue
        found += _of_pod(where, answer, now, warn_before, gateway=is_gateway(pod))
        for one in answer:
            if one.kind == CA and one.name == ROOT and one.certificate:
                roots.setdefault(one.certificate.fingerprint, (one.certificate, []))[1].append(where)
    told = mesh_root(cluster, namespace_of(pods[0]))
    found += _roots(roots, told, now, warn_before)
    return sorted(found, key=lambda one: ((WORKLOAD, CREDENTIAL, ROOTS).index(one.kind), one.holder))


def _ask(cluster: Cluster, pod: Obj) -> list[Held] | LabError:
    try:
        # The secrets alone: the whole dump of a proxy is a hundred times as long.
        answer = json.loads(ask_pod(cluster, pod, "config_dump?resource=dynamic_active_secrets"))
    except LabError as error:
        return error
    entries = [{key: value for key, value in one.items() if key != "@type"} for one in answer.get("configs") or ()]
    part = {"@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump", "dynamic_active_secrets": entries}
    return list(held(Dump.of({"configs": [part]}).secrets()))


def _of_pod(where: str, secrets: list[Held], now: datetime, warn_before: timedelta, *, gateway: bool) -> list[Expiring]:
    found = []
    for one in secrets:
        if one.name == ROOT or one.certificate is None:
            continue
        if one.name != OWN and not gateway:
            continue
        if one.name == OWN and (one.kind == CA or one.certificate.is_ca):
            continue  # intermediates of the chain: the root's row stands for the authority
        kind = WORKLOAD if one.name == OWN else CREDENTIAL
        holder = where if one.name == OWN else f"{where}, {_secret_name(one.name)}"
        state = state_of(one.certificate, now, warn_before, rotates=kind == WORKLOAD)
        found.append(Expiring(holder, kind, state, one.certificate))
    if not any(one.kind == WORKLOAD for one in found):
        found.append(Expiring(where, WORKLOAD, State.MISSING, note="its proxy waits for one from istiod"))
    return found


def _secret_name(resource: str) -> str:
    """The Secret behind an SDS resource: `kubernetes://web` of Istio, `credential-web` of the embedded mesh."""
    known = next((prefix for prefix in ("kubernetes://", "credential-") if resource.startswith(prefix)), "")
    return resource.removeprefix(known)


def _roots(
    roots: dict[str, tuple[CertificateFacts, list[str]]], told: bytes, now: datetime, warn_before: timedelta
) -> list[Expiring]:
    known = {one.fingerprint for one in describe_chain(told)} if told else set()
    found = []
    for fingerprint, (certificate, holders) in roots.items():
        proxies = "1 proxy" if len(holders) == 1 else f"{len(holders)} proxies"
        note = ""
        if known and fingerprint not in known:
            note = "not in ConfigMap istio-ca-root-cert, so it is on its way out"
        found.append(
            Expiring(f"trusted by {proxies}", ROOTS, state_of(certificate, now, warn_before), certificate, note)
        )
    return found
