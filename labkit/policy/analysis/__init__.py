"""What istioctl analyze and Kiali's validations say of a set of objects, with their codes. Pure.

    messages        codes, levels, words
    mesh            the objects, and the workloads and hosts that they make
    schema, injection, annotation_names, services, virtual_services, destination_rules, gateways, policies    istioctl's
    kiali, kiali_mtls                                                                                    Kiali's

Each rule is a function from the mesh to messages. Codes that istioctl has retired are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from labkit.policy.analysis import (
    annotation_names,
    destination_rules,
    gateways,
    injection,
    kiali,
    kiali_mtls,
    policies,
    schema,
    services,
    virtual_services,
)
from labkit.policy.analysis.forms import probes
from labkit.policy.analysis.mesh import Mesh, Object, annotations_of
from labkit.policy.analysis.messages import CODES, ISTIO, KIALI, Code, Level, Message, found
from labkit.policy.declared.settings import MeshSettings

Rule = Callable[[Mesh], Iterator[Message]]

RULES: tuple[Rule, ...] = (
    schema.schemas,
    injection.namespace_labels,
    injection.pods_without_proxy,
    injection.proxy_images,
    injection.image_auto,
    injection.proxy_user,
    annotation_names.annotation_names,
    services.port_names,
    services.deployments,
    services.service_entry_addresses,
    virtual_services.destination_hosts,
    virtual_services.destination_subsets,
    virtual_services.gateways,
    virtual_services.conflicting_hosts,
    virtual_services.ingress_subsets,
    virtual_services.regular_expressions,
    virtual_services.claim_routes,
    destination_rules.unverified_servers,
    destination_rules.hosts_and_subsets,
    gateways.workloads,
    gateways.conflicts,
    gateways.shared_certificates,
    gateways.credentials,
    policies.authorization_workloads,
    policies.authorization_namespaces,
    policies.sidecars,
    kiali.selectors,
    kiali.export_namespaces,
    kiali.authorization,
    kiali.destination_rules,
    kiali.rules_for_one_host,
    kiali.gateways,
    kiali.services,
    kiali.global_sidecar,
    kiali.virtual_services,
    kiali.one_host_twice,
    kiali_mtls.peer_authentications,
    kiali_mtls.destination_rules,
    kiali_mtls.overriding_rules,
    kiali_mtls.authorization_needs,
)
"""Every rule, istioctl's first."""

SUPPRESS = "galley.istio.io/analyze-suppress"
"""The annotation with codes that are not to be said of an object; `*` for all."""

KINDS_READ = (
    *("Namespace", "Pod", "Service", "ServiceAccount", "Secret", "ConfigMap"),
    *("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"),
    *schema.KINDS,
)
"""The kinds that rules look at."""


def analyze(
    objects: Iterable[Object],
    settings: MeshSettings | None = None,
    *,
    from_files: bool = False,
    secrets_known: bool | None = None,
) -> list[Message]:
    """All messages about some objects, the worst first.

    An object that no cluster would store is said to be wrong, and left out of all that is said of the others. Where
    `secrets_known` is False, nothing is said of missing Secrets.
    """
    known, messages = [], []
    for one in objects:
        if one.get("kind") not in KINDS_READ:
            continue
        if wrong := schema.wrong_form(one):
            messages.append(found("IST0106", one, wrong))
        else:
            known.append(one)

    def look(these: list[Object]) -> list[Message]:
        mesh = Mesh(these, settings or MeshSettings(), from_files=from_files, secrets_known=secrets_known)
        return [message for rule in RULES for message in rule(mesh)]

    try:
        messages += look(known)
    except Exception:
        # Some field has a form that no table foresaw. In a cluster there is no such object; files hold anything.
        unreadable = {id(one): why for one in known if (why := unreadable_because(one))}
        messages += [found("IST0106", one, unreadable[id(one)]) for one in known if id(one) in unreadable]
        known = [one for one in known if id(one) not in unreadable]
        messages += _one_by_one(Mesh(known, settings or MeshSettings(), from_files=from_files))
    silent = _silent(known)
    said = {(one.order, one.path): one for one in messages if not _is_silent(one, silent)}
    return sorted(said.values(), key=lambda one: (one.order, one.path))


def _silent(objects: Iterable[Object]) -> dict[str, list[str]]:
    written = {found("IST0106", one, "").origin: annotations_of(one).get(SUPPRESS, "") for one in objects}
    return {origin: [code.strip() for code in codes.split(",")] for origin, codes in written.items() if codes}


def _one_by_one(mesh: Mesh) -> Iterator[Message]:
    """All rules; one that cannot be followed is said, as istioctl says it, and takes no other with it."""
    for rule in RULES:
        try:
            yield from list(rule(mesh))
        except Exception as error:
            subject = {"kind": "Analyzer", "metadata": {"name": rule.__name__, "namespace": rule.__module__}}
            yield found("IST0001", subject, f"{type(error).__name__}: {error}")


def unreadable_because(obj: Object) -> str:
    """Why the rules cannot read an object, even beside objects that are well; empty if they can."""
    around = probes(obj)
    try:
        mesh = Mesh([obj, *around], MeshSettings(), from_files=True)
        for rule in RULES:
            list(rule(mesh))
    except Exception as error:
        return f"one of its fields has a form that Kubernetes would refuse ({type(error).__name__}: {error})"
    return ""


def _is_silent(message: Message, silent: dict[str, list[str]]) -> bool:
    codes = silent.get(message.origin, ())
    return "*" in codes or message.code.code in codes


__all__ = ["CODES", "ISTIO", "KIALI", "KINDS_READ", "RULES", "SUPPRESS", "Code", "Level", "Mesh", "Message", "analyze"]
