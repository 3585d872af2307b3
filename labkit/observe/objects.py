"""What is on the cluster: workloads by name, and snapshots of objects for prediction and the map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import (
    AUTHORIZATION_POLICY,
    DEPLOYMENT,
    DESTINATION_RULE,
    GATEWAY,
    NAMESPACE,
    PEER_AUTHENTICATION,
    POD,
    SERVICE,
    SERVICE_ENTRY,
    VIRTUAL_SERVICE,
    Kind,
)
from labkit.errors import InputError, MeshError, did_you_mean

PROXY = "istio-proxy"
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})


@dataclass(frozen=True)
class WorkloadRef:
    """A workload by name, with the pods that it has now."""

    namespace: str
    name: str
    kind: str
    pods: tuple[Obj, ...]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def kubectl_name(self) -> str:
        """What one types after `kubectl exec`: `deploy/chatbackend`, or the pod's name."""
        return f"deploy/{self.name}" if self.kind == "Deployment" else self.name

    def ready_pod(self) -> Obj:
        """One pod that is ready, the newest first. Raises MeshError when there is none."""
        ready = [pod for pod in self.pods if is_ready(pod) and not is_terminating(pod)]
        if not ready:
            states = (
                ", ".join(f"{pod['metadata']['name']} is {pod_status(pod)}" for pod in self.pods) or "it has no pod"
            )
            raise MeshError(
                f"{self} has no ready pod.",
                meaning=f"Last seen: {states}.",
                next_step=f"Wait for it: lab.wait_until_ready('{self}').",
                workload=str(self),
            )
        return max(ready, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))


@dataclass(frozen=True)
class Snapshot:
    """The objects that decide about traffic, read together."""

    namespaces: tuple[Obj, ...] = ()
    pods: tuple[Obj, ...] = ()
    services: tuple[Obj, ...] = ()
    peer_authentications: tuple[Obj, ...] = ()
    destination_rules: tuple[Obj, ...] = ()
    authorization_policies: tuple[Obj, ...] = ()
    gateways: tuple[Obj, ...] = ()
    virtual_services: tuple[Obj, ...] = ()
    service_entries: tuple[Obj, ...] = ()
    root_namespace: str = "istio-system"
    mesh_installed: bool = False
    shown: tuple[str, ...] = field(default=())

    def pods_in(self, namespace: str) -> list[Obj]:
        return [pod for pod in self.pods if pod["metadata"]["namespace"] == namespace]

    def service(self, namespace: str, name: str) -> Obj | None:
        """The Service, or None."""
        return next((s for s in self.services if (namespace_of(s), name_of(s)) == (namespace, name)), None)

    def pods_of_service(self, service: Obj) -> list[Obj]:
        """The pods that a Service selects."""
        selector = service["spec"].get("selector") or {}
        if not selector:
            return []
        return [pod for pod in self.pods_in(namespace_of(service)) if matches(selector, labels_of(pod))]


def take_snapshot(cluster: Cluster, *namespaces: str) -> Snapshot:
    """Read what decides about traffic, in all namespaces; `namespaces` are the ones to show (all by default)."""
    return snapshot_of({kind: cluster.objects(kind) for kind in SNAPSHOT_KINDS}, find_istiod(cluster), namespaces)


SNAPSHOT_KINDS = (
    *(NAMESPACE, POD, SERVICE),
    *(PEER_AUTHENTICATION, DESTINATION_RULE, AUTHORIZATION_POLICY, GATEWAY, VIRTUAL_SERVICE, SERVICE_ENTRY),
)


def snapshot_of(found: Mapping[Kind, Iterable[Obj]], istiod: Obj | None, namespaces: Sequence[str] = ()) -> Snapshot:
    """A snapshot of objects that were read already, one collection for each of SNAPSHOT_KINDS."""
    every = tuple(found[NAMESPACE])
    shown = tuple(namespaces) or tuple(name_of(n) for n in every if name_of(n) not in SYSTEM_NAMESPACES)
    return Snapshot(
        namespaces=every,
        pods=tuple(pod for pod in found[POD] if not is_terminating(pod) and not is_finished(pod)),
        services=tuple(found[SERVICE]),
        peer_authentications=tuple(found[PEER_AUTHENTICATION]),
        destination_rules=tuple(found[DESTINATION_RULE]),
        authorization_policies=tuple(found[AUTHORIZATION_POLICY]),
        gateways=tuple(found[GATEWAY]),
        virtual_services=tuple(found[VIRTUAL_SERVICE]),
        service_entries=tuple(found[SERVICE_ENTRY]),
        root_namespace=namespace_of(istiod) if istiod else "istio-system",
        mesh_installed=istiod is not None,
        shown=shown,
    )


def find_istiod(cluster: Cluster) -> Obj | None:
    """The control plane's Deployment, wherever it is installed; every way of installing Istio labels it so."""
    found = cluster.objects(DEPLOYMENT, labels={"app": "istiod"})
    return found[0] if found else None


def find_workload(cluster: Cluster, reference: str, namespace: str | None = None) -> WorkloadRef:
    """The Deployment or pod named `namespace/name` or `name`. Raises InputError when there is none, or several."""
    if not isinstance(reference, str) or not reference:
        raise InputError(f"{reference!r} names no workload.", next_step="Write 'namespace/name'.")
    head, slash, name = reference.rpartition("/")
    if slash and head in ("deploy", "deployment", "pod"):
        head = ""
    namespace = head or namespace
    candidates = _named(cluster, name, namespace)
    if not namespace and any(ref.namespace == "default" for ref in candidates):
        candidates = [ref for ref in candidates if ref.namespace == "default"]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        listed = ", ".join(f"'{ref}'" for ref in candidates)
        raise InputError(f"There are several workloads {name!r}: {listed}.", next_step="Give the namespace too.")
    if namespace:
        require_namespace(cluster, namespace)
    there = [f"{namespace_of(one)}/{name_of(one)}" for one in cluster.objects(DEPLOYMENT, namespace)]
    near = did_you_mean(f"{namespace}/{name}" if namespace else name, there if namespace else map(_bare, there))
    raise InputError(
        f"There is no Deployment or pod {name!r}{f' in namespace {namespace!r}' if namespace else ''}.",
        meaning=f"Deployments there: {', '.join(there) or 'none'}.",
        next_step=f"{near}Look at lab.pods().",
        workload=reference,
    )


def require_namespace(cluster: Cluster, name: str) -> None:
    """Raises InputError where there is no such namespace, with the name that was meant if one is near."""
    if cluster.find(NAMESPACE, name) is None:
        near = did_you_mean(name, map(name_of, cluster.objects(NAMESPACE)))
        raise InputError(
            f"The namespace {name!r} does not exist.", next_step=f"{near}Look at lab.namespaces().", namespace=name
        )


def _bare(name: str) -> str:
    return name.rpartition("/")[2]


def _named(cluster: Cluster, name: str, namespace: str | None) -> list[WorkloadRef]:
    references = []
    for deployment in cluster.objects(DEPLOYMENT, namespace):
        if name_of(deployment) == name:
            where = namespace_of(deployment)
            selector = deployment["spec"]["selector"].get("matchLabels") or {}
            references.append(
                WorkloadRef(where, name, "Deployment", tuple(cluster.objects(POD, where, labels=selector)))
            )
    if not references:
        for pod in cluster.objects(POD, namespace):
            if name_of(pod) == name:
                references.append(WorkloadRef(namespace_of(pod), name, "Pod", (pod,)))
    return references


# -- small facts of one object ------------------------------------------------------------------------------------


def name_of(obj: Obj) -> str:
    """metadata.name"""
    return str(obj["metadata"]["name"])


def namespace_of(obj: Obj) -> str:
    """metadata.namespace, empty for cluster-scoped objects."""
    return str(obj["metadata"].get("namespace", ""))


def labels_of(obj: Obj) -> dict[str, str]:
    """metadata.labels, never None."""
    return dict(obj["metadata"].get("labels") or {})


def annotations_of(obj: Obj) -> dict[str, str]:
    """metadata.annotations, never None."""
    return dict(obj["metadata"].get("annotations") or {})


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether all labels of the selector are there with the same value."""
    return all(labels.get(key) == value for key, value in selector.items())


def condition(obj: Obj, kind: str) -> bool:
    """Whether the condition `kind` of an object's status is True."""
    conditions = obj.get("status", {}).get("conditions") or []
    return any(item.get("type") == kind and item.get("status") == "True" for item in conditions)


def is_ready(pod: Obj) -> bool:
    """The pod's own word that all its containers are ready."""
    return condition(pod, "Ready")


def is_terminating(obj: Obj) -> bool:
    """Whether deletion has begun."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def is_finished(pod: Obj) -> bool:
    """Whether the pod has ended for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def sidecars_first(pod: Obj) -> list[Obj]:
    """Init containers that keep running (native sidecars), then the containers."""
    init = pod["spec"].get("initContainers") or []
    return [c for c in init if c.get("restartPolicy") == "Always"] + list(pod["spec"]["containers"])


def workload_name(pod: Obj) -> str:
    """The name of the Deployment behind a pod, or the pod's own name."""
    for owner in pod["metadata"].get("ownerReferences") or []:
        if owner.get("kind") == "ReplicaSet":
            return str(owner["name"]).removesuffix(f"-{labels_of(pod).get('pod-template-hash', '')}")
        return str(owner["name"])
    return name_of(pod)


def is_injected(pod: Obj) -> bool:
    """Whether an istio-proxy runs in the pod, as a container or as a native sidecar."""
    return any(container["name"] == PROXY for container in sidecars_first(pod))


def is_gateway(pod: Obj) -> bool:
    """Whether the pod's proxy stands alone, as a gateway."""
    return is_injected(pod) and all(one["name"] == PROXY for one in sidecars_first(pod))


def app_container(pod: Obj) -> str:
    """The container that kubectl would take: the annotated one, else the first that is not the proxy."""
    if annotated := annotations_of(pod).get("kubectl.kubernetes.io/default-container"):
        return annotated
    names = [str(container["name"]) for container in pod["spec"]["containers"]]
    return next((name for name in names if name != PROXY), names[0])


def ready_count(pod: Obj) -> tuple[int, int]:
    """(ready, all) as in kubectl's READY column: native sidecars count, other init containers do not."""
    counted = {container["name"] for container in sidecars_first(pod)}
    status = pod.get("status", {})
    states: Iterable[Obj] = (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
    return sum(1 for state in states if state["name"] in counted and state.get("ready")), len(counted)


def ready_text(pod: Obj) -> str:
    """The READY column: 2/2."""
    ready, total = ready_count(pod)
    return f"{ready}/{total}"


def pod_status(pod: Obj) -> str:
    """kubectl's STATUS column: the phase, or the reason why a container does not run."""
    if is_terminating(pod):
        return "Terminating"
    status = pod.get("status", {})
    init = status.get("initContainerStatuses") or []
    for number, state in enumerate(init):
        waiting = (state.get("state") or {}).get("waiting") or {}
        ended = (state.get("state") or {}).get("terminated") or {}
        if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return f"Init:{waiting['reason']}"
        if not ended and not state.get("started") and not state.get("ready"):
            return f"Init:{number}/{len(init)}"
    for state in status.get("containerStatuses") or []:
        now = state.get("state") or {}
        reason = (now.get("waiting") or now.get("terminated") or {}).get("reason")
        if reason:
            return str(reason)
    return str(status.get("phase", "Unknown"))
