"""The checks of lesson 08: certificates of your own, and a door that asks for them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from labkit.checks.evidence import LOOKS, RETURNED, told
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.cluster.kinds import GATEWAY, SECRET
from labkit.errors import InputError
from labkit.installers.gateway import gateway_address
from labkit.observe.mesh import mesh_status
from labkit.observe.objects import name_of
from labkit.observe.visiting import Papers, door_of, visit
from labkit.outcomes import Observation, Outcome
from labkit.pki import CertificateFacts, describe_certificate
from labkit.pki.folder import Folder, folder_of

HOST, STATUS, CA = "sentences.example.com", "status.example.com", "example.com"
NAME, APP = "sentences-credential", "sentences"
CLIENTS = ("partner", "late-partner", "stranger")


def _folder(cluster: Cluster) -> Folder:
    folder = folder_of(cluster.name)
    if not folder.has(CA):
        raise InputError(
            "Nothing was minted yet.", next_step="Mint an authority first: ca = lab.mint_ca('example.com')."
        )
    return folder


def _visit(cluster: Cluster, client: str = "", host: str = HOST) -> Observation:
    folder = _folder(cluster)
    papers = Papers(folder.certificate(CA))
    if client:
        papers = Papers(folder.certificate(CA), folder.certificate(client), folder.key(client))
    door = door_of(gateway_address(cluster, namespace=_root(cluster)).url("https"))
    return visit(f"https://{host}/", door, papers)


def _root(cluster: Cluster) -> str:
    return mesh_status(cluster).namespace or "istio-system"


def _minted(cluster: Cluster) -> tuple[Any, ...]:
    folder = _folder(cluster)
    names = (CA, HOST, *CLIENTS)
    return ({name: describe_certificate(folder.certificate(name).read_bytes()) for name in names if folder.has(name)},)


def _places(cluster: Cluster) -> tuple[Any, ...]:
    """Which namespaces have the Secret: the gateway's, the application's; and what a partner gets."""
    beside = cluster.find(SECRET, NAME, _root(cluster)) is not None
    gateway = cluster.find(GATEWAY, APP, APP)
    return gateway, beside, cluster.find(SECRET, NAME, APP) is not None, _visit(cluster, "partner")


def _secret(cluster: Cluster) -> tuple[Any, ...]:
    found = cluster.find(SECRET, NAME, _root(cluster))
    return (sorted((found or {}).get("data") or {}) if found else None,)


def _comes_with(client: str) -> Any:
    return lambda cluster: (_visit(cluster, client),)


def _status_door(cluster: Cluster) -> tuple[Any, ...]:
    return tuple(_visit(cluster, client, STATUS) for client in ("", "partner", "stranger"))


def _left(cluster: Cluster) -> tuple[Any, ...]:
    objects = [*cluster.objects("Gateway", APP), *cluster.objects("VirtualService", APP)]
    objects += [one for one in cluster.objects(SECRET) if name_of(one) == NAME]
    return [name_of(one) for one in objects], folder_of(cluster.name).files


def minted(found: dict[str, CertificateFacts]) -> Judgement:
    """An authority, a server's certificate and two clients' of it, and a client of another."""
    expected = "an authority example.com, a server and two clients that it signed (one expired), and a stranger"
    hint = "Run the cells that mint: lab.mint_ca, ca.server, ca.client."
    if missing := [name for name in (CA, HOST, *CLIENTS) if name not in found]:
        return Judgement(False, expected, f"missing: {', '.join(missing)}", hint)
    ours = all(found[name].issuer == found[CA].subject for name in (HOST, "partner", "late-partner"))
    strange = found["stranger"].issuer != found[CA].subject
    late = found["late-partner"].not_after < datetime.now(UTC) < found["partner"].not_after
    good = found[CA].is_ca and ours and strange and late and HOST in found[HOST].dns_names
    observed = "; ".join(f"{name} by {one.issuer}, until {one.not_after:%Y-%m-%d}" for name, one in found.items())
    return Judgement(good, expected, observed, hint)


def door_without_secret(gateway: Any, beside: bool, astray: bool, seen: Observation) -> Judgement:
    """A Gateway asks for certificates and has none itself."""
    good = _is_mutual(gateway) and not beside and not astray and _cut(seen)
    hint = "Apply manifests/lessons/08/gateway.yaml before there is any Secret."
    return Judgement(good, "a Gateway with MUTUAL, no Secret, no handshake", _place(beside, astray, seen), hint)


def wrong_place(gateway: Any, beside: bool, astray: bool, seen: Observation) -> Judgement:
    """The Secret lies where the gateway does not look."""
    good = _is_mutual(gateway) and astray and not beside and _cut(seen)
    hint = "Put the Secret into the namespace sentences, and into no other."
    return Judgement(good, "the Secret in sentences alone, and no handshake", _place(beside, astray, seen), hint)


def secret(keys: list[str] | None) -> Judgement:
    """cert, key and cacert, beside the gateway."""
    observed = "there is none" if keys is None else f"its keys are {', '.join(keys)}"
    hint = "lab.tls_secret('sentences-credential', server, ca, mesh_namespace)"
    return Judgement(
        keys == ["cacert", "cert", "key"], "a Secret beside the gateway with cert, key and cacert", observed, hint
    )


def answered(seen: Observation) -> Judgement:
    """A client with a certificate of the right authority is answered."""
    good = seen.http_status == 200 and seen.outcome is Outcome.MTLS
    hint = "The Secret has to be in the namespace of the gateway's pod, with its three keys."
    return Judgement(good, "200 by mTLS for the partner", told(seen), hint)


def refused_with(words: str, who: str) -> Any:
    """A judge of one who is turned away, with the reason that TLS gives."""

    def judge(seen: Observation) -> Judgement:
        good = _cut(seen) and words in seen.error
        hint = "The Gateway's mode has to be MUTUAL: apply manifests/lessons/08/gateway.yaml."
        return Judgement(good, f"{who}: no answer, alert {words}", told(seen), hint)

    return judge


def status_door(_attempt: Any, nobody: Observation, partner: Observation, stranger: Observation) -> Judgement:
    """Without a certificate: in. With a good one: in. With a bad one: out."""
    good = nobody.http_status == 200 and partner.http_status == 200 and _cut(stranger)
    observed = f"without: {told(nobody)}; partner: {told(partner)}; stranger: {told(stranger)}"
    hint = "SIMPLE asks nobody, MUTUAL asks everybody. Which mode asks, and takes no for an answer?"
    return Judgement(good, "without a certificate: 200; partner: 200; stranger: refused", observed, hint)


def nothing_left(objects: list[str], files: list[str]) -> Judgement:
    """No Gateway, no VirtualService, no Secret, no key."""
    observed = f"objects: {', '.join(objects) or 'none'}; files: {', '.join(files) or 'none'}"
    hint = "Delete the Gateway, the VirtualService and the Secret, then lab.forget_minted()."
    return Judgement(not objects and not files, "no Gateway, Secret, certificate or key is left", observed, hint)


def _is_mutual(gateway: Any) -> bool:
    servers = ((gateway or {}).get("spec") or {}).get("servers") or [{}]
    return ((servers[0].get("tls") or {}).get("mode")) == "MUTUAL"


def _cut(seen: Observation) -> bool:
    return seen.http_status is None and seen.outcome is Outcome.REFUSED


def _place(beside: bool, astray: bool, seen: Observation) -> str:
    places = [words for words, there in (("beside the gateway", beside), ("in sentences", astray)) if there]
    return f"Secret: {' and '.join(places) or 'none'}; {told(seen)}"


CHECKS = (
    Check("08-minted", LOOKS, minted, _minted),
    Check("08-door-without-secret", LOOKS, door_without_secret, _places),
    Check("08-wrong-place", LOOKS, wrong_place, _places),
    Check("08-secret", LOOKS, secret, _secret),
    Check("08-answered", LOOKS, answered, _comes_with("partner")),
    Check("08-none", LOOKS, refused_with("certificate required", "without a certificate"), _comes_with("")),
    Check("08-stranger", LOOKS, refused_with("unknown ca", "another authority's"), _comes_with("stranger")),
    Check("08-expired", LOOKS, refused_with("certificate expired", "an expired one"), _comes_with("late-partner")),
    Check("08-status-door", RETURNED, status_door, _status_door, exercise=True),
    Check("08-nothing-left", LOOKS, nothing_left, _left),
)
