"""How the mesh itself is configured: its settings when it is installed, and while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.cluster.kinds import CONFIGMAP
from labkit.errors import LabError, MeshError
from labkit.observe import mesh, objects, proxies, settling
from labkit.views.commands import has_blank
from labkit.views.results import Attempt, Done
from labkit.worlds import Journal, Undo

if TYPE_CHECKING:
    from labkit.cluster import Cluster
    from labkit.cluster.cluster import Change
    from labkit.installers.values import Source


class Installing:
    """The settings of the mesh, as istioctl and Helm take them.

    lab.configure_mesh(values, set=[...])    an IstioOperator or Helm's values: path, YAML text or dict; and a.b=c
    lab.attempt_mesh(values)                 the same, but a refusal is shown, and a blank `...` is not sent
    lab.mesh_config()                        the settings that are in force, as a dict
    """

    cluster: Cluster
    _journal: Journal

    if TYPE_CHECKING:

        def _after(self, changes: Iterable[Change]) -> None: ...
        def _installer(self) -> Any: ...

    def configure_mesh(self, values: Source | Iterable[Source] = (), *, set: Iterable[str] = ()) -> Done:
        """Install the mesh with these settings, or give them to the mesh that is there, and wait until they are in
        force. What is not named has its default. Proxies that run keep what they were started with.
        """
        from labkit.installers.values import load_values
        from labkit.policy.mesh_values import forgotten, meant, merge, read_mesh_values

        started, assignments = time.monotonic(), list(set)
        written = load_values(values, assignments)
        read = read_mesh_values(written)
        status = mesh.mesh_status(self.cluster)
        place = {"namespace": status.namespace, "revision": status.revision} if status.installed else {}
        installer, before = self._installer(), self._settings(status.installed)
        changes: list[Change] = installer.install(self.cluster, values=written, **place)
        if not status.installed:
            where = mesh.mesh_status(self.cluster).namespace
            self._journal.add(Undo(f"removed the mesh from {where}", lambda: installer.uninstall(self.cluster)))
        to_record = list(changes) if status.installed else []
        if read.gateway:
            from labkit.installers.gateway import install_gateway

            added = install_gateway(self.cluster, namespace=mesh.mesh_status(self.cluster).namespace)
            changes, to_record = [*changes, *added], [*to_record, *added]
        self._after(to_record)
        proxies.wait_until_delivered(self.cluster, [one for one in changes if one.kind == CONFIGMAP])
        if any(one.kind == CONFIGMAP and one.action == "configured" for one in changes):
            settling.wait_until_drained(self.cluster, objects.take_snapshot(self.cluster).pods)
        lines = tuple(str(one) for one in changes if one.action != "unchanged")
        asked_for = merge(before, read.mesh)
        for one in forgotten(asked_for, self._settings(True)):
            lines += (f"{one} is not named any more, so it is at its default",)
        warnings = tuple(
            f"{path} has no effect on the embedded mesh{f'; did you mean {near}?' if (near := meant(path)) else ''}"
            for path in read.without_effect
        )
        line = _elsewhere(values, assignments, written, place.get("namespace") or "istio-system")
        what = "Configured the mesh" if lines else "The mesh is configured so already"
        return Done(what, lines, (line,), warnings, time.monotonic() - started)

    def attempt_mesh(self, values: Source | Iterable[Source]) -> Attempt:
        """Configure the mesh, but show a refusal instead of raising it. Settings with a blank `...` are not sent."""
        if has_blank(values):
            return Attempt(pending=True)
        try:
            return Attempt(done=self.configure_mesh(values))
        except LabError as error:
            return Attempt(error=error)

    def _settings(self, installed: bool) -> dict[str, Any]:
        try:
            return self.mesh_config() if installed else {}
        except MeshError:
            return {}

    def mesh_config(self) -> dict[str, Any]:
        """`meshConfig`: what the ConfigMap `istio` of the mesh's revision says."""
        import yaml

        status = mesh.mesh_status(self.cluster)
        name = "istio" if status.revision in ("", "default") else f"istio-{status.revision}"
        found = self.cluster.find(CONFIGMAP, name, status.namespace) if status.namespace else None
        if found is None:
            raise MeshError(
                "There are no settings of a mesh here.",
                meaning="They are in the ConfigMap 'istio', beside istiod.",
                next_step="Install a mesh: lab.install_mesh().",
            )
        return dict(yaml.safe_load(found["data"].get("mesh") or "") or {})


def _elsewhere(
    values: Source | Iterable[Source], assignments: Iterable[str], written: Mapping[str, Any], namespace: str
) -> str:
    """The line that does the same on a real cluster: Helm's values by helm, all else by istioctl."""
    several = [values] if isinstance(values, str | Path | Mapping) else list(values)
    by_helm = bool(several) and written.get("kind") != "IstioOperator"
    files = [str(one) for one in several if isinstance(one, Path) or (isinstance(one, str) and "\n" not in one)]
    parts = [*(f"-f {one}" for one in files), *(f"--set {one}" for one in assignments)]
    if len(files) < len(several):
        parts.insert(0, "-f values.yaml" if by_helm else "-f operator.yaml")
    if by_helm:
        return " ".join([f"helm upgrade istiod istio/istiod -n {namespace}", *parts])
    return " ".join(["istioctl install", *parts, "-y"])
