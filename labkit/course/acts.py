"""What a step does, as data: each function returns an act, which calls one verb of the lab that it is given.

Step("Inject age", run(apply("manifests/apps/sentences/sidecar/age.yaml"), ready("sentences")))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.course.model import Act


def apply(source: Any, namespace: str | None = None) -> Act:
    """`lab.apply`: a path, YAML text, an object or a list of them."""
    return lambda lab: lab.apply(source, namespace)


def apply_to_mesh(source: Any) -> Act:
    """`lab.apply` into the mesh's root namespace, which has another name on some platforms."""
    return lambda lab: lab.apply(source, lab.mesh_status().namespace)


def delete_from_mesh(source: Any) -> Act:
    """`lab.delete` in the mesh's root namespace."""
    return lambda lab: lab.delete(source, lab.mesh_status().namespace)


def delete(source: Any, namespace: str | None = None) -> Act:
    """`lab.delete`: the same sources, or "peerauthentication/default" and a namespace."""
    return lambda lab: lab.delete(source, namespace)


def label(namespace: str, labels: Mapping[str, str | None]) -> Act:
    """`lab.label_namespace`; None removes a label."""
    return lambda lab: lab.label_namespace(namespace, labels)


def inject(namespace: str) -> Act:
    """Ask for sidecars in a namespace, with the label of the mesh that is there."""
    return lambda lab: lab.label_namespace(namespace, lab.mesh_status().injection_label)


def restart(*workloads: str) -> Act:
    """`lab.restart` for each Deployment, as "namespace/name"."""
    return run(*(_restart(workload) for workload in workloads))


def _restart(workload: str) -> Act:
    return lambda lab: lab.restart(workload)


def ready(what: str) -> Act:
    """`lab.wait_until_ready`: a namespace, or "namespace/name"."""
    return lambda lab: lab.wait_until_ready(what)


def mode(mode: str, namespace: str, name: str = "default") -> Act:
    """`lab.set_mtls_mode`: the namespace-wide PeerAuthentication of that name."""
    return lambda lab: lab.set_mtls_mode(mode, namespace, name=name)


def run(*acts: Act) -> Act:
    """Several acts, one after the other; returns what each of them returned."""

    def all_of_them(lab: Any) -> list[object]:
        done: list[object] = []
        for act in acts:
            result = act(lab)
            done += result if isinstance(result, list) else [result]
        return done

    return all_of_them


def look(_: Any) -> None:
    """Nothing is changed: the step is to look at what is there."""
