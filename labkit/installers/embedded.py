"""Installs the small control plane of the embedded cluster, as one installs Istio: by applying objects to the API.

The order is that of an installer of Istio: kinds, namespace, control plane, webhooks. It ends when istiod is ready,
which is when the API server can verify its webhooks and every sidecar that exists has its configuration.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from labkit.cluster import Cluster, Obj
from labkit.cluster.cluster import Change
from labkit.cluster.kinds import CONFIGMAP, CRD, DEPLOYMENT, NAMESPACE, POD
from labkit.cluster.problems import MANAGED_BY_LABEL, MANAGER
from labkit.errors import InputError, MeshError, WaitTimeoutError
from labkit.policy.injection import DEFAULT_REVISION, REVISION, injection_webhooks
from labkit.policy.mesh_values import MeshValues, merge, read_mesh_values
from labkit.policy.peer_authentication import ROOT_NAMESPACE
from labkit.policy.workload import PROXY_CONTAINER

DATA = Path(__file__).parent / "data"

Progress = Callable[[str], None]

# istiod is ready within a second; a machine under heavy load gets its time.
READY_LIMIT = 60.0

# A proxy that starts has its configuration within a second, or something else is wrong with its pod.
STARTING_LIMIT = 10.0

ISTIOD_LABELS = {"app": "istiod"}
ROOT_CONFIGMAP = "istio-ca-root-cert"

# An object's name, https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Installation:
    """One control plane: where it lives, the revision that namespaces name in `istio.io/rev`, and its settings."""

    namespace: str = ROOT_NAMESPACE
    revision: str = DEFAULT_REVISION
    values: MeshValues = field(default_factory=MeshValues, compare=False)

    def __post_init__(self) -> None:
        for what, value in (("namespace", self.namespace), ("revision", self.revision)):
            if not _LABEL.fullmatch(value or ""):
                raise InputError(
                    f"{value!r} cannot be the mesh's {what}.",
                    meaning="It becomes part of the names of objects: at most 63 lower-case letters, digits, hyphens.",
                    next_step="Use 'istio-system' and 'default', or as on AKS 'aks-istio-system' and 'asm-1-24'.",
                    field=what,
                )

    @property
    def suffix(self) -> str:
        """What names of this revision end with, as in Istio's charts."""
        return "" if self.revision == DEFAULT_REVISION else f"-{self.revision}"

    @property
    def deployment(self) -> str:
        return f"istiod{self.suffix}"

    def crds(self) -> list[Obj]:
        """The kinds that the mesh brings: one file each."""
        names = sorted(path.name for path in (DATA / "crds").glob("*.yaml"))
        return [crd for name in names for crd in self._read(f"crds/{name}")]

    def control_plane(self) -> list[Obj]:
        """istiod with its account, settings and Service."""
        return [self._with_values(obj) for obj in self._read("istiod.yaml")]

    def _with_values(self, obj: Obj) -> Obj:
        """The object with what the installation was told beside the defaults."""
        values, data = self.values, obj.get("data") or {}
        if "mesh" in data and values.mesh:
            data["mesh"] = yaml.safe_dump(merge(yaml.safe_load(data["mesh"]), values.mesh), sort_keys=True)
        if "values" in data and values.injection:
            data["values"] = json.dumps(merge(json.loads(data["values"]), values.injection))
        if obj["kind"] == "Deployment" and values.environment:
            (container,) = obj["spec"]["template"]["spec"]["containers"]
            kept = [one for one in container["env"] if one["name"] not in values.environment]
            new = [{"name": name, "value": value} for name, value in sorted(values.environment.items())]
            container["env"] = [*kept, *new]
        return obj

    def webhooks(self) -> list[Obj]:
        """Injection, one webhook per way of asking for it, and validation."""
        mutating, validating = self._read("webhooks.yaml")
        template = mutating["webhooks"][0]
        mutating["webhooks"] = [
            {
                **copy.deepcopy(template),
                "name": webhook.name,
                "namespaceSelector": webhook.namespace_selector(),
                "objectSelector": webhook.object_selector(),
            }
            for webhook in injection_webhooks(
                self.revision, enable_namespaces_by_default=self.values.namespaces_by_default
            )
        ]
        return [mutating, validating]

    def _read(self, name: str) -> list[Obj]:
        text = (DATA / name).read_text(encoding="utf-8")
        for parameter, value in (
            ("NAMESPACE", self.namespace),
            ("REVISION", self.revision),
            ("SUFFIX", self.suffix),
        ):
            text = text.replace(f"$({parameter})", value)
        return list(yaml.safe_load_all(text))


def install(
    cluster: Cluster,
    *,
    namespace: str = ROOT_NAMESPACE,
    revision: str = DEFAULT_REVISION,
    values: Mapping[str, Any] | None = None,
    on_progress: Progress = lambda _: None,
    limit: float = READY_LIMIT,
) -> list[Change]:
    """Install the mesh and wait until istiod is ready; what changed. Installing it again changes nothing.

    `values` are those of Helm's chart istiod, or an IstioOperator. Given to a mesh that is there already they change
    its settings; without them it gets the defaults back.

    Raises MeshError when another control plane is there already, WaitTimeoutError when istiod does not get ready.
    """
    settings = read_mesh_values(values or {})
    namespace = settings.namespace if settings.namespace and namespace == ROOT_NAMESPACE else namespace
    revision = settings.revision if settings.revision and revision == DEFAULT_REVISION else revision
    for path in settings.without_effect:
        on_progress(f"{path} has no effect on the embedded mesh.")
    installation = Installation(namespace, revision, settings)
    _refuse_another(cluster, installation)
    changes: list[Change] = []
    steps = (
        ("the kinds of Istio", installation.crds()),
        (f"istiod in the namespace {namespace}", installation.control_plane()),
        ("the webhooks for injection and validation", installation.webhooks()),
    )
    for what, objects in steps:
        if objects[0]["kind"] == "ServiceAccount":
            changes.append(cluster.create_namespace(namespace))
        changes += _outgrown(cluster, objects)
        done = cluster.apply(objects)
        changes += done
        new = any(change.action != "unchanged" for change in done)
        on_progress(f"{'Applied' if new else 'Found'} {what}.")
    on_progress(f"Waiting for istiod (revision {revision}) to be ready ...")
    wait_until_ready(cluster, installation, limit=limit)
    on_progress(f"istiod is ready in {namespace}. Namespaces join with the label istio.io/rev={revision}.")
    return changes


def has_other_settings(cluster: Cluster, namespace: str, revision: str) -> bool:
    """Whether the mesh that is there was told something beside the defaults of its `meshConfig`."""
    installation = Installation(namespace, revision)
    name = f"istio{installation.suffix}"
    found = cluster.find(CONFIGMAP, name, namespace)
    wanted = next(
        one for one in installation.control_plane() if one["kind"] == "ConfigMap" and one["metadata"]["name"] == name
    )
    if found is None:
        return False
    written, default = ((one.get("data") or {}).get("mesh") or "" for one in (found, wanted))
    return bool(yaml.safe_load(written) != yaml.safe_load(default))


def _outgrown(cluster: Cluster, objects: list[Obj]) -> list[Change]:
    """Remove webhook configurations that have more webhooks than they are to have.

    istiod owns the bundle of each webhook, so one that is not applied any more would stay as a bundle and nothing else,
    which the API server refuses.
    """
    changes = []
    for obj in objects:
        if obj["kind"] == "MutatingWebhookConfiguration":
            there = cluster.find(obj["kind"], obj["metadata"]["name"]) or {}
            wanted = {webhook["name"] for webhook in obj["webhooks"]}
            if {webhook["name"] for webhook in there.get("webhooks") or ()} - wanted:
                changes.append(cluster.delete(obj["kind"], obj["metadata"]["name"]))
    return changes


def wait_until_ready(cluster: Cluster, installation: Installation, *, limit: float = READY_LIMIT) -> None:
    """Watch the Deployment until its pod is ready."""

    def missing(deployments: list[Obj]) -> str:
        found = next((d for d in deployments if d["metadata"]["name"] == installation.deployment), None)
        return _not_ready(found) if found else f"there is no deployment {installation.deployment}"

    cluster.wait_until(
        DEPLOYMENT,
        missing,
        what=f"istiod (deployment {installation.deployment} in {installation.namespace}) to be ready",
        namespace=installation.namespace,
        labels=ISTIOD_LABELS,
        limit=limit,
    )


def _not_ready(deployment: Obj) -> str:
    status: dict[str, Any] = deployment.get("status") or {}
    if status.get("observedGeneration") != deployment["metadata"].get("generation"):
        return "the deployment has not been looked at yet"
    wanted = deployment["spec"].get("replicas", 1)
    current = min(status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0)
    return "" if current >= wanted else f"{current} of {wanted} pods are ready"


def uninstall(cluster: Cluster, *, on_progress: Progress = lambda _: None, limit: float = READY_LIMIT) -> list[Change]:
    """Remove every control plane that labkit installed, with its kinds and therefore with all policies.

    Labels on namespaces stay, and pods keep their sidecars, which go on with the configuration they have, until
    they are made anew: as in life. Webhooks go first, so that no pod is refused on the way; then sidecars that are
    just starting get their first configuration, without which they would never be ready.
    """
    changes: list[Change] = []
    for installation in list(installations(cluster)):
        changes += cluster.delete_documents(installation.webhooks())
        _let_proxies_start(cluster, on_progress)
        changes += cluster.delete_documents(installation.control_plane())
        # istiod would put back what it keeps right, so it must have ended before the rest goes.
        cluster.wait_until(
            POD, _still_there, what="istiod to end", namespace=installation.namespace, labels=ISTIOD_LABELS, limit=limit
        )
        changes += cluster.delete_documents(installation.crds())
        changes += _delete_root_certificates(cluster)
        changes += _delete_secrets(cluster, installation)
        changes += _delete_namespace(cluster, installation.namespace)
        on_progress(f"Removed istiod (revision {installation.revision}) from {installation.namespace}.")
    if not changes:
        on_progress("There is no mesh of ours to remove.")
        return []
    cluster.wait_until_gone([change for change in changes if change.kind in (NAMESPACE, CRD)], limit=limit)
    on_progress("The mesh is gone. Sidecars that run keep their last configuration until their pods are restarted.")
    return changes


def _let_proxies_start(cluster: Cluster, on_progress: Progress) -> None:
    """Wait for the first configuration of proxies that are starting; name those that do not get it in time."""
    try:
        cluster.wait_until(POD, _starting, what="the sidecars that start", limit=STARTING_LIMIT)
    except WaitTimeoutError as error:
        on_progress(
            f"Not ready, and without a mesh they will not be until they are made anew: {error.details['seen']}."
        )


def _starting(pods: list[Obj]) -> str:
    return ", ".join(f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in pods if proxy_starts(p))


def proxy_starts(pod: Obj) -> bool:
    """Whether a pod's proxy is about to be ready. One whose pod ends, or cannot start at all, is not."""
    status = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"] or status.get("phase") in ("Succeeded", "Failed"):
        return False
    spec = pod["spec"]
    if not any(one["name"] == PROXY_CONTAINER for one in [*spec["containers"], *(spec.get("initContainers") or ())]):
        return False
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    if any(one["name"] == PROXY_CONTAINER and one.get("ready") for one in statuses):
        return False
    inits = len(status.get("initContainerStatuses") or ())
    before = [one for place, one in enumerate(statuses) if place < inits or one["name"] == PROXY_CONTAINER]
    reasons = [((one.get("state") or {}).get("waiting") or {}).get("reason") or "" for one in before]
    return not any(reason.endswith("BackOff") or reason.startswith("Err") for reason in reasons)


def _still_there(pods: list[Obj]) -> str:
    return ", ".join(pod["metadata"]["name"] for pod in pods)


def installations(cluster: Cluster) -> Iterator[Installation]:
    """The control planes on the cluster that labkit installed."""
    for deployment in cluster.objects(DEPLOYMENT, labels=ISTIOD_LABELS):
        if deployment["metadata"].get("labels", {}).get(MANAGED_BY_LABEL) == MANAGER:
            yield _installation_of(deployment)


def _installation_of(deployment: Obj) -> Installation:
    metadata = deployment["metadata"]
    return Installation(metadata["namespace"], metadata.get("labels", {}).get(REVISION) or DEFAULT_REVISION)


def _refuse_another(cluster: Cluster, wanted: Installation) -> None:
    """One control plane per cluster: two would write the same sidecars' files and fight over the root namespace."""
    for deployment in cluster.objects(DEPLOYMENT, labels=ISTIOD_LABELS):
        found = _installation_of(deployment)
        if found != wanted:
            raise MeshError(
                f"A control plane of revision {found.revision} is already installed in {found.namespace}.",
                meaning="In this version a cluster holds one mesh. Nothing was changed.",
                next_step="Use that one, or remove it first: 'labkit mesh uninstall'.",
                namespace=found.namespace,
                revision=found.revision,
            )


def _delete_root_certificates(cluster: Cluster) -> list[Change]:
    copies = cluster.objects(CONFIGMAP, labels={"istio.io/config": "true", MANAGED_BY_LABEL: MANAGER})
    return [
        cluster.delete(CONFIGMAP, obj["metadata"]["name"], obj["metadata"]["namespace"])
        for obj in copies
        if obj["metadata"]["name"] == ROOT_CONFIGMAP
    ]


def _delete_secrets(cluster: Cluster, installation: Installation) -> list[Change]:
    """The authority: a mesh that is installed anew begins with a new root."""
    return [cluster.delete("Secret", "istio-ca-secret", installation.namespace)]


def _delete_namespace(cluster: Cluster, namespace: str) -> list[Change]:
    """The namespace, if it was made by the installation; one that was there before is somebody else's."""
    found = cluster.find(NAMESPACE, namespace)
    ours = found is not None and found["metadata"].get("labels", {}).get(MANAGED_BY_LABEL) == MANAGER
    return [cluster.delete(NAMESPACE, namespace)] if ours else []
