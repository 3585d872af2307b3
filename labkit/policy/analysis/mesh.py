"""The objects of one moment as an analysis looks at them: by kind, with the workloads and hosts that they make.

Of Deployments and the like those without pods count as the pods that they will create, so that files alone can be
analyzed; istioctl looks at Pods only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from labkit.policy.calls import is_over
from labkit.policy.configs import namespace_of
from labkit.policy.declared.settings import MeshSettings
from labkit.policy.destination_rule import CLUSTER_DOMAIN, full_name, host_matches
from labkit.policy.injection import REVISION, injection_decision
from labkit.policy.workload import PROXY_CONTAINER, has_pods, has_sidecar, is_owned, labels_match

Object = Mapping[str, Any]

T = TypeVar("T")

TEMPLATES = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")
INJECTION = "istio-injection"
INJECT = "sidecar.istio.io/inject"
EVERYWHERE = "*"
MESH_GATEWAY = "mesh"

# pkg/config/analysis/analyzers/util/config.go IsSystemNamespace
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})
_GATEWAY_LABELS = {"app": "istio-ingressgateway", "istio": "ingressgateway"}


@dataclass(frozen=True, eq=False)
class Standing:
    """A pod, or what a template will create. `obj` is the object that says so."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    account: str
    in_mesh: bool
    obj: Object

    @property
    def containers(self) -> list[Object]:
        """The containers of the pod or of the template, init containers too."""
        spec = self.obj.get("spec") or {}
        if self.obj.get("kind") in TEMPLATES:
            spec = (spec.get("template") or {}).get("spec") or {}
        return [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]

    @property
    def is_gateway(self) -> bool:
        """Whether its proxy stands alone, beside no application."""
        return all(one.get("name") == PROXY_CONTAINER for one in self.containers)


@dataclass(frozen=True)
class Host:
    """A host that somebody in the mesh can name. `scope` is the namespace that sees it, or `*`."""

    scope: str
    name: str
    ports: tuple[int, ...] = ()
    selector: Mapping[str, str] | None = None
    obj: Object | None = None


class Mesh:
    """The objects, and what they add up to. With `from_files` there is no cluster behind them."""

    def __init__(
        self,
        objects: Iterable[Object],
        settings: MeshSettings,
        *,
        from_files: bool = False,
        secrets_known: bool | None = None,
    ) -> None:
        self.settings, self.from_files, self._secrets_known = settings, from_files, secrets_known
        self._remembered: dict[str, Any] = {}
        self._by_kind: dict[str, list[Object]] = defaultdict(list)
        for one in objects:
            self._by_kind[str(one.get("kind"))].append(one)

    def every(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return self._by_kind.get(kind, [])

    def here(self, kind: str, namespace: str) -> list[Object]:
        """The objects of a kind in one namespace."""
        return self._by_namespace.get((kind, namespace), [])

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        """One object."""
        return next((one for one in self.here(kind, namespace) if name_of(one) == name), None)

    @cached_property
    def _by_namespace(self) -> dict[tuple[str, str], list[Object]]:
        found: dict[tuple[str, str], list[Object]] = defaultdict(list)
        for kind, objects in self._by_kind.items():
            for one in objects:
                found[(kind, namespace_of(one))].append(one)
        return found

    @property
    def root(self) -> str:
        """The root namespace."""
        return self.settings.root_namespace

    def remember(self, what: str, make: Callable[[], T]) -> T:
        """What a rule works out of all objects, made once."""
        if what not in self._remembered:
            self._remembered[what] = make()
        known: T = self._remembered[what]
        return known

    # -- namespaces

    @cached_property
    def namespaces(self) -> dict[str, dict[str, str]]:
        """Every namespace with its labels; files also make those that their objects name."""
        known = {name_of(one): labels_of(one) for one in self.every("Namespace")}
        if self.from_files:
            for objects in self._by_kind.values():
                for one in objects:
                    if one.get("kind") != "Namespace":
                        known.setdefault(namespace_of(one), {})
        return known

    @property
    def secrets_known(self) -> bool:
        """Whether a Secret that is not here is missing: files often leave Secrets out."""
        if self._secrets_known is not None:
            return self._secrets_known
        return not self.from_files or bool(self.every("Secret"))

    @cached_property
    def principals(self) -> frozenset[str]:
        """`cluster.local/ns/shop/sa/web` of every service account, and of `default` in every namespace."""
        accounts = {(namespace_of(one), name_of(one)) for one in self.every("ServiceAccount")}
        accounts |= {(one.namespace, one.account) for one in self.workloads}
        accounts |= {(name, "default") for name in self.namespaces}
        domain = self.settings.trust_domain
        return frozenset(f"{domain}/ns/{namespace}/sa/{name}" for namespace, name in accounts)

    # -- workloads

    @cached_property
    def workloads(self) -> list[Standing]:
        """The pods, and what templates without pods will create; with files alone, the default ingress gateway too."""
        pods = [self._pod(one) for one in self.every("Pod") if not is_over(one)]
        found = [*pods]
        for kind in TEMPLATES:
            for one in self.every(kind):
                if not is_owned(one) and not has_pods(
                    one, (pod.labels for pod in pods if pod.namespace == namespace_of(one))
                ):
                    found.append(self._planned(one))
        gateways = any(one.labels.get("istio") == "ingressgateway" for one in found)
        if self.from_files and not gateways:
            # istioctl analyze --use-kube=false takes Istio's default gateway for granted (local/analyze.go).
            name = "istio-ingressgateway"
            made_up = {"kind": "Pod", "metadata": {"name": name, "namespace": self.root, "labels": _GATEWAY_LABELS}}
            found.append(Standing(self.root, name, _GATEWAY_LABELS, name, True, made_up))
        return found

    @cached_property
    def services(self) -> list[Object]:
        """The Services; with files alone, that of the default ingress gateway too."""
        found = list(self.every("Service"))
        taken = any((one.get("spec") or {}).get("selector", {}).get("istio") == "ingressgateway" for one in found)
        if self.from_files and not taken:
            ports = [{"port": number, "protocol": "TCP"} for number in (15021, 80, 443, 15443)]
            found.append(
                {
                    "kind": "Service",
                    "metadata": {"name": "istio-ingressgateway", "namespace": self.root},
                    "spec": {"ports": ports, "selector": {"istio": "ingressgateway"}},
                }
            )
        return found

    def selected(self, selector: Mapping[str, str], namespace: str = "") -> Iterator[Standing]:
        """The workloads that a selector matches, in one namespace or in all."""
        for one in self._workloads_by_namespace.get(namespace, ()) if namespace else self.workloads:
            if labels_match(selector, one.labels):
                yield one

    def selecting(self, workload: Standing) -> Iterator[Object]:
        """The Services that select a workload."""
        for one in self._services_by_namespace.get(workload.namespace, ()):
            selector = (one.get("spec") or {}).get("selector") or {}
            if selector and labels_match(selector, workload.labels):
                yield one

    @cached_property
    def _workloads_by_namespace(self) -> dict[str, list[Standing]]:
        found: dict[str, list[Standing]] = defaultdict(list)
        for one in self.workloads:
            found[one.namespace].append(one)
        return found

    @cached_property
    def _services_by_namespace(self) -> dict[str, list[Object]]:
        found: dict[str, list[Object]] = defaultdict(list)
        for one in self.services:
            found[namespace_of(one)].append(one)
        return found

    def _pod(self, pod: Object) -> Standing:
        spec = pod.get("spec") or {}
        ambient = annotations_of(pod).get("ambient.istio.io/redirection") == "enabled"
        in_mesh = has_sidecar(pod) or ambient or self.would_inject(namespace_of(pod), pod)
        account = str(spec.get("serviceAccountName") or "default")
        return Standing(namespace_of(pod), name_of(pod), labels_of(pod), account, in_mesh, pod)

    def _planned(self, template: Object) -> Standing:
        pod = (template.get("spec") or {}).get("template") or {}
        namespace = namespace_of(template)
        in_mesh = has_sidecar(pod) or self.would_inject(namespace, pod)
        account = str((pod.get("spec") or {}).get("serviceAccountName") or "default")
        return Standing(namespace, name_of(template), labels_of(pod), account, in_mesh, template)

    # pkg/config/analysis/analyzers/util/in_mesh.go asks for the old label alone; a revision's label counts here, too.
    def would_inject(self, namespace: str, pod: Object) -> bool:
        around = self.namespaces.get(namespace, {})
        revision = self.settings.revision
        if self.settings.any_revision:
            revision = around.get(REVISION) or labels_of(pod).get(REVISION) or revision
        decision = injection_decision(
            around,
            labels_of(pod),
            annotations_of(pod),
            revision,
            namespace=namespace,
            host_network=bool((pod.get("spec") or {}).get("hostNetwork")),
        )
        return decision.inject

    # -- hosts

    @cached_property
    def hosts(self) -> list[Host]:
        """The hosts of ServiceEntries and Services, once for each scope (analyzers/util/service_lookup.go)."""
        found: list[Host] = []
        for one in self.every("ServiceEntry"):
            spec, namespace = one.get("spec") or {}, namespace_of(one)
            ports = tuple(int(port.get("number") or 0) for port in spec.get("ports") or ())
            selector = (spec.get("workloadSelector") or {}).get("labels") or {}
            scopes = scopes_of(spec.get("exportTo"), namespace)
            for host in spec.get("hosts") or ():
                found += [Host(scope, full_name(str(host), namespace), ports, selector, one) for scope in scopes]
        for one in self.services:
            spec, namespace = one.get("spec") or {}, namespace_of(one)
            ports = tuple(int(port.get("port") or 0) for port in spec.get("ports") or ())
            written = annotations_of(one).get("networking.istio.io/exportTo", "")
            scopes = scopes_of([part.strip() for part in written.split(",") if part.strip()], namespace)
            name = f"{name_of(one)}.{namespace}.svc.{CLUSTER_DOMAIN}"
            found += [Host(scope, name, ports, spec.get("selector") or {}, one) for scope in scopes]
        return found

    @cached_property
    def _hosts_by_name(self) -> dict[tuple[str, str], Host]:
        return {(one.scope, one.name): one for one in reversed(self.hosts)}

    def host(self, written: str, namespace: str, export_to: Iterable[str] = ()) -> Host | None:
        """The host that an object of a namespace means, if those that it is exported to can see it."""
        name = full_name(written, namespace)
        scopes = scopes_of(list(export_to), namespace) if export_to else [namespace]
        for scope in (EVERYWHERE, *scopes):
            if known := self._hosts_by_name.get((scope, name)):
                return known
        for known in self.hosts:
            visible = known.scope in (EVERYWHERE, namespace)
            if visible and known.name.startswith("*") and written.removeprefix("*").endswith(known.name[1:]):
                return known
        return None


def scopes_of(export_to: Iterable[str] | None, namespace: str) -> list[str]:
    """The namespaces that see an object; `*` for all."""
    written = [str(one) for one in export_to or ()]
    if not written or EVERYWHERE in written:
        return [EVERYWHERE]
    return list(dict.fromkeys(namespace if one == "." else one for one in written))


def hosts_meet(one: str, other: str) -> bool:
    """Whether two names or patterns can mean the same host (pkg/config/host/name.go Matches)."""
    return host_matches(one, other) or host_matches(other, one)


# -- small facts of one object


def name_of(obj: Object) -> str:
    """metadata.name"""
    return str((obj.get("metadata") or {}).get("name") or "")


def full_name_of(obj: Object) -> str:
    """`namespace/name`"""
    return f"{namespace_of(obj)}/{name_of(obj)}"


def labels_of(obj: Object) -> dict[str, str]:
    """metadata.labels, never None."""
    return dict((obj.get("metadata") or {}).get("labels") or {})


def annotations_of(obj: Object) -> dict[str, str]:
    """metadata.annotations as texts, never None."""
    return {key: str(value) for key, value in ((obj.get("metadata") or {}).get("annotations") or {}).items()}


def selector_text(selector: Mapping[str, str] | None) -> str:
    """A selector as Kubernetes prints it: `app=web,version=v1`."""
    return ",".join(f"{key}={value}" for key, value in sorted((selector or {}).items()))
