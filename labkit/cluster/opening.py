"""Opening a cluster by name. This file holds labkit's only imports of the embedded cluster, all of them lazy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from labkit.cluster.cluster import Cluster
from labkit.errors import ClusterError, InputError
from labkit.findings import Finding

EMBEDDED = "embedded"

Narrator = Callable[[str], None]


def open_cluster(
    cluster: str = EMBEDDED,
    *,
    context: str | None = None,
    kubeconfig: str | Path | None = None,
    narrate: Narrator = print,
) -> Cluster:
    """The cluster for `embedded`, `embedded:<name>`, or the name of a kubeconfig context.

    `kubeconfig` reads another file than $KUBECONFIG or ~/.kube/config. Raises one error when nobody answers.
    """
    if not isinstance(cluster, str) or not cluster:
        raise InputError(
            f"{cluster!r} names no cluster.",
            next_step="Give 'embedded', 'embedded:<name>', or a context of your kubeconfig.",
        )
    if context is None and (name := embedded_name(cluster)):
        return _open_embedded(name, narrate)
    return _open_context(context or cluster, Path(kubeconfig) if kubeconfig else None, narrate)


def embedded_name(cluster: str) -> str | None:
    """The embedded cluster that `cluster` means, or None when it means a context."""
    kind, _, name = cluster.partition(":")
    return (name or EMBEDDED) if kind == EMBEDDED else None


def require_running(cluster: str) -> None:
    """Refuse to look at an embedded cluster that does not run: looking starts nothing."""
    name = embedded_name(cluster)
    if name and not embedded_lifecycle().status(name).running:
        option = "" if name == EMBEDDED else f" --name {name}"
        raise ClusterError(
            f"The embedded cluster {name!r} does not run.",
            next_step=f"Start it: labkit up{option}",
            cluster=cluster,
        )


def _open_embedded(name: str, narrate: Narrator) -> Cluster:
    # The cluster ends with the Jupyter server when there is one: JupyterLab tells its kernels who it is.
    parent = os.environ.get("JPY_PARENT_PID", "")
    server = _server_of(int(parent)) if parent.isdigit() else None
    kubeconfig = embedded_lifecycle().up(name=name, until_pid=server, narrate=narrate)
    cluster = Cluster(name, kubeconfig=kubeconfig, is_embedded=True)
    narrate(f"The embedded cluster {name!r} answers at {cluster.server} ({cluster.version()}).")
    narrate(f"For kubectl: export KUBECONFIG={kubeconfig}")
    return cluster


def _server_of(pid: int) -> int | None:
    # JPY_PARENT_PID is the process that started the kernel. papermill and a plain interpreter set none, or one that
    # ends with the notebook; then the cluster goes on until it is idle or taken down.
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return pid if b"jupyter" in command and b"nbconvert" not in command else None


def _open_context(context: str, kubeconfig: Path | None, narrate: Narrator) -> Cluster:
    known, current = _contexts(kubeconfig)
    if context == "current" and current:
        context = current
    if context not in known:
        listed = ", ".join(repr(name) for name in known) or "none at all"
        raise InputError(
            f"The kubeconfig has no context {context!r}.",
            meaning=f"It has {listed}.",
            next_step="Choose one of these, or the embedded cluster: labkit.open('embedded').",
            context=context,
        )
    cluster = Cluster(context, kubeconfig=kubeconfig, context=context)
    narrate(f"Context {context!r} answers at {cluster.server} ({cluster.version()}).")
    narrate("Nothing is written there before you apply something.")
    return cluster


def _contexts(kubeconfig: Path | None) -> tuple[list[str], str | None]:
    import yaml
    from kubernetes import config
    from kubernetes.config.config_exception import ConfigException

    try:
        contexts, current = config.list_kube_config_contexts(str(kubeconfig) if kubeconfig else None)
    except (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError) as error:
        where = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise InputError(
            f"No kubeconfig could be read at {where}: {error}",
            meaning="labkit looks at $KUBECONFIG, and without it at ~/.kube/config, as kubectl does.",
            next_step="Point KUBECONFIG to a file, or use labkit.open('embedded').",
        ) from error
    return [str(item["name"]) for item in contexts], current["name"] if current else None


def embedded_lifecycle() -> ModuleType:
    """The module that brings embedded clusters up and down: `up`, `down`, `status`, `list_clusters`."""
    try:
        from labkit.embedded import lifecycle
    except ModuleNotFoundError as error:
        raise InputError(
            "This copy of labkit has no embedded cluster.",
            next_step="Give the name of a kubeconfig context: labkit.open('<context>').",
        ) from error
    return lifecycle


def embedded_kubeconfig(name: str = EMBEDDED) -> Path | None:
    """Where the kubeconfig of the embedded cluster `name` is or will be; None in a copy without embedded clusters."""
    try:
        from labkit.embedded.paths import ClusterPaths
    except ModuleNotFoundError:
        return None
    return ClusterPaths(name).kubeconfig


def examine_embedded() -> list[Finding]:
    """What this machine has and lacks for an embedded cluster."""
    try:
        from labkit.embedded import machine
    except ModuleNotFoundError:
        mend = "Use a cluster of your own: labkit run --cluster CONTEXT"
        return [Finding("Embedded cluster", False, False, "not in this copy of labkit", mend)]
    return machine.examine()
