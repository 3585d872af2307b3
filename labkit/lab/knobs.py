"""Knobs: one thing set at one place, in the object that counts there. What the controls of a notebook call."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labkit.cluster.kinds import DEPLOYMENT, DESTINATION_RULE, NAMESPACE, PEER_AUTHENTICATION
from labkit.errors import InputError
from labkit.observe import mesh, objects, waiting
from labkit.policy import knobs
from labkit.views.commands import label_pairs
from labkit.views.results import Done
from labkit.worlds import Journal, restart

if TYPE_CHECKING:
    from labkit.cluster import Cluster, Obj
    from labkit.cluster.cluster import Change

MODES = ("UNSET", "DISABLE", "PERMISSIVE", "STRICT")
INJECT = "sidecar.istio.io/inject"


class Knobs:
    """Modes, injection and clients' TLS, one setting at a time."""

    cluster: Cluster
    _turned: Journal

    if TYPE_CHECKING:

        def put(self, source: Any, namespace: str | None = None) -> list[Change]: ...
        def apply(self, source: Any, namespace: str | None = None) -> Done: ...
        def _after(self, changes: Iterable[Change]) -> None: ...
        def _settle(self, changes: Iterable[Change]) -> None: ...
        def _label(self, name: str, labels: Mapping[str, str | None]) -> Change: ...
        def _done(self, changes: list[Change], kubectl: str | list[str], started: float) -> Done: ...

    def set_mtls_mode(
        self,
        mode: str,
        namespace: str | None = None,
        *,
        workload: str | None = None,
        port: int | None = None,
        name: str = "",
    ) -> Done:
        """Set the mode of the mesh (no namespace), of a namespace, of a workload, or of one of its container ports.

        The policy that counts there is changed; without one, or with a `name`, a policy of that name is applied.
        """
        if mode not in MODES:
            near = f" Did you mean {mode.upper()!r}?" if str(mode).upper() in MODES else ""
            raise InputError(
                f"{mode!r} is not a mode of PeerAuthentication.",
                meaning="Nothing was changed.",
                next_step=f"Choose one of {', '.join(MODES)}.{near}",
                mode=mode,
            )
        if port is not None and not workload:
            raise InputError(
                "A port's mode is set for a workload.",
                meaning="portLevelMtls is read only from a policy with a selector. Nothing was changed.",
                next_step="Name the workload too: lab.set_mtls_mode(mode, namespace, workload=..., port=...).",
            )
        place = self._place(namespace, workload, port)
        policies = self.cluster.objects(PEER_AUTHENTICATION)
        done = self._turn(knobs.mode_policy(policies, place, mode, self._root(), name=name))
        return replace(done, warnings=(*done.warnings, *self._undeclared(place)))

    def set_client_tls(self, mode: str, service: str, *, subset: str = "") -> Done:
        """Set the TLS that clients use towards "namespace/service" or a subset of it; "" leaves it to the mesh."""
        if mode and mode not in knobs.CLIENT_MODES:
            raise InputError(
                f"{mode!r} is not a TLS mode of a DestinationRule.",
                next_step=f"Choose one of {', '.join(knobs.CLIENT_MODES)}, or '' for the mesh's own choice.",
            )
        namespace, slash, name = service.partition("/")
        if not slash:
            raise InputError(f"{service!r} names no Service.", next_step="Write 'namespace/service'.")
        self.cluster.get("services", name, namespace)
        rules = self.cluster.objects(DESTINATION_RULE)
        if subset and subset not in knobs.subsets_of(rules, service):
            known = ", ".join(knobs.subsets_of(rules, service)) or "none"
            raise InputError(f"{service} has no subset {subset!r}.", next_step=f"Its DestinationRule names: {known}.")
        return self._turn(knobs.client_tls_rule(rules, service, mode, subset))

    def set_injection(
        self, on: bool, namespace: str, *, workload: str | None = None, restart_pods: bool = True
    ) -> Done:
        """Whether new pods of a namespace, or of one workload, get a sidecar.

        A label changes no pod that runs already: `restart_pods` makes new ones and waits for them. A workload's own
        label stands in its pod template, so that changing it makes new pods anyway.
        """
        started = time.monotonic()
        if workload:
            return self._inject_workload(on, namespace, workload, started)
        revision = mesh.mesh_status(self.cluster).revision or "default"
        labels: dict[str, str | None] = {"istio.io/rev": revision if on else None}
        present = objects.labels_of(self.cluster.get(NAMESPACE, namespace))
        if "istio-injection" in present:
            labels["istio-injection"] = None
        change = self._label(namespace, labels)
        self._turned.record_labels(change, labels)
        lines = [f"kubectl label namespace {namespace} {label_pairs(labels)} --overwrite"]
        if restart_pods:
            for deployment in self.cluster.objects(DEPLOYMENT, namespace):
                restart(self.cluster, objects.name_of(deployment), namespace)
            lines.append(f"kubectl rollout restart deployment -n {namespace}")
            waiting.wait_until_ready(self.cluster, namespace)
        return self._done([change], lines, started)

    def _inject_workload(self, on: bool, namespace: str, workload: str, started: float) -> Done:
        reference = objects.find_workload(self.cluster, workload, namespace)
        if reference.kind != "Deployment":
            raise InputError(f"{reference} is not a Deployment.", next_step="Its label is set when the pod is made.")
        patch = {"spec": {"template": {"metadata": {"labels": {INJECT: "true" if on else "false"}}}}}
        change = self.cluster.patch(DEPLOYMENT, reference.name, patch, namespace)
        self._after([change])
        self._turned.record([change])
        waiting.wait_until_ready(self.cluster, str(reference))
        body = json.dumps(patch, separators=(",", ":"))
        return self._done([change], f"kubectl patch deployment {reference.name} -n {namespace} -p '{body}'", started)

    def reset_knobs(self) -> Done:
        """Put back what these knobs have changed, newest first."""
        started = time.monotonic()
        undone, failed = self._turned.undo()
        lines = tuple(undone or ["nothing had been changed"])
        what = "The knobs are as they were" + (", but for what is listed below: try again" if failed else "")
        return Done(what, lines, (), tuple(failed), time.monotonic() - started)

    # -- plumbing --------------------------------------------------------------------------------------------------

    def _turn(self, document: Obj) -> Done:
        """Apply one object, remember how it was, and say what was applied."""
        import yaml

        started = time.monotonic()
        changes = self.put(document)
        self._turned.record(changes)
        self._settle(changes)
        done = self._done(changes, "kubectl apply -f -    # with this manifest", started)
        return Done(
            done.what, done.lines, done.kubectl, done.warnings, done.seconds, yaml.safe_dump(document, sort_keys=False)
        )

    def _place(self, namespace: str | None, workload: str | None, port: int | None) -> knobs.Place:
        if namespace:
            self.cluster.get(NAMESPACE, namespace)
        if not workload:
            return knobs.Place(namespace or "")
        reference = objects.find_workload(self.cluster, workload, namespace)
        labels = objects.labels_of(reference.pods[0]) if reference.pods else {}
        return knobs.Place(reference.namespace, reference.name, labels, port)

    def _undeclared(self, place: knobs.Place) -> list[str]:
        """A port that no container declares is mostly a Service's, by mistake: portLevelMtls takes the workload's.

        https://istio.io/latest/docs/reference/config/security/peer_authentication/#PeerAuthentication
        """
        if not place.port:
            return []
        pods = objects.find_workload(self.cluster, place.workload, place.namespace).pods
        own = [one for pod in pods[:1] for one in pod["spec"]["containers"] if one["name"] != objects.PROXY]
        ports = sorted({int(port["containerPort"]) for one in own for port in one.get("ports") or ()})
        if not ports or place.port in ports:
            return []
        known = ", ".join(map(str, ports))
        said = f"{place.namespace}/{place.workload} declares no container port {place.port}"
        return [f"{said}, only {known}; the workload's port is meant here, and not its Service's"]

    def _root(self) -> str:
        istiod = objects.find_istiod(self.cluster)
        return objects.namespace_of(istiod) if istiod else "istio-system"
