"""What the API server's refusals mean and what to do next: a Status becomes one error of `labkit.errors`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from labkit.errors import ClusterError, InputError, LabError, MeshError

MANAGER = "labkit"
"""The field manager of everything that labkit applies."""

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
"""The label, with the value `labkit`, on everything that labkit creates."""

MODES = ("UNSET", "DISABLE", "PERMISSIVE", "STRICT")


def unreachable(server: str, name: str, cause: BaseException) -> ClusterError:
    """Nobody answers at the kubeconfig's address."""
    return ClusterError(
        f"The cluster {name!r} does not answer at {server}.",
        meaning=f"The kubeconfig was read, but the connection failed: {_innermost(cause)}.",
        next_step="Start the cluster (embedded: 'labkit up'), or choose another context.",
        server=server,
        cluster=name,
    )


def cut_off(server: str, name: str, cause: BaseException) -> ClusterError:
    """The connection broke in the middle of an answer."""
    return ClusterError(
        f"The cluster {name!r} broke off its answer at {server}.",
        meaning=f"It was reached, and then the connection was lost: {_innermost(cause)}.",
        next_step="Try again. If it stays so, look whether the API server runs (embedded: 'labkit status').",
        server=server,
        cluster=name,
    )


def not_trusted(server: str, name: str, reason: object) -> ClusterError:
    """Somebody answers, and TLS with them fails: the kubeconfig names another authority, or none."""
    why = str(reason or "the handshake failed").splitlines()[-1].rstrip(".")
    return ClusterError(
        f"TLS with the cluster {name!r} at {server} failed.",
        meaning=f"Somebody answers there whom this kubeconfig does not trust, or who is no TLS server: {why}.",
        next_step="Take a fresh kubeconfig (embedded: 'labkit up'), or compare certificate-authority-data with the "
        "cluster's CA.",
        server=server,
        cluster=name,
    )


def unknown_kind(api_version: str, kind: str, *, mesh_kinds: Iterable[str] = ()) -> LabError:
    """The manifest names a kind that this cluster does not serve; `mesh_kinds` are Istio's kinds that it does."""
    if "istio.io" in api_version:
        known = ", ".join(mesh_kinds)
        if known:
            return InputError(
                f"The mesh of this cluster does not know the kind {kind} ({api_version}).",
                meaning=f"Nothing was changed. Of Istio's kinds it knows: {known}.",
                next_step="Compare apiVersion and kind with these; for another kind, take a cluster that serves it.",
                kind=kind,
                api_version=api_version,
            )
        return MeshError(
            f"This cluster does not know the kind {kind} ({api_version}).",
            meaning="Nothing was changed. Istio's kinds come with the mesh, and none is installed.",
            next_step="Install it: lab.install_mesh(), or 'labkit mesh install'.",
            kind=kind,
            api_version=api_version,
        )
    return InputError(
        f"This cluster does not know the kind {kind} ({api_version}).",
        meaning="Nothing was changed. The spelling is wrong, or a CustomResourceDefinition is missing.",
        next_step="Compare apiVersion and kind with the output of 'kubectl api-resources'.",
        kind=kind,
        api_version=api_version,
    )


def is_not_served(error: LabError) -> bool:
    """Whether the API server knows no such path, as opposed to no such object."""
    message = str(error.details.get("message", ""))
    return error.details.get("status") == 404 and bool(
        re.search("could not find the requested|page not found", message)
    )


def from_status(http_status: int, status: Any, *, action: str, kind: str = "", name: str = "") -> LabError:
    """The error for an answer of the API server that is not a success. `action` is what was tried, in words."""
    status = status if isinstance(status, dict) else {}
    message = str(status.get("message") or f"HTTP {http_status}")
    details = {"status": http_status, "reason": status.get("reason", ""), "message": message}
    if match := re.search(r'namespaces "([^"]+)" not found', message):
        return _no_namespace(match[1], details)
    if "admission webhook" in message:
        return InputError(
            f"{action} was denied: {message}",
            meaning="The API server asked the webhook, and these are its words. Nothing was changed.",
            next_step="Correct what it names in the manifest and apply again.",
            **details,
        )
    if "failed calling webhook" in message or "failed to call webhook" in message:
        return MeshError(
            f"{action} failed: {message}",
            meaning="The webhook is registered, but nobody answers for it. Is istiod running?",
            next_step="Look at lab.mesh_status(), or 'kubectl get pods -A -l app=istiod'.",
            **details,
        )
    if "Unsupported value" in message and "mode" in message:
        return InputError(
            f"{action} was refused: {message}",
            meaning="The mode is not one of Istio's. Nothing was changed.",
            next_step=f"Choose one of {', '.join(MODES)} (upper case, as in YAML).",
            **details,
        )
    return _by_code(http_status, action, message, details)


def _no_namespace(namespace: str, details: dict[str, Any]) -> LabError:
    return InputError(
        f"The namespace {namespace!r} does not exist.",
        meaning="Nothing was changed.",
        next_step=f"Make it: lab.create_namespace({namespace!r}), or 'kubectl create namespace {namespace}'.",
        namespace=namespace,
        **details,
    )


def _by_code(http_status: int, action: str, message: str, details: dict[str, Any]) -> LabError:
    what = f"{action} was refused: {message}"
    if http_status in (400, 422):
        step = "Correct the field that the message names and try again."
        return InputError(what, meaning="Nothing was changed.", next_step=step, **details)
    if http_status == 401:
        step = "Log in again, or take a fresh kubeconfig (embedded: 'labkit up')."
        return ClusterError(what, meaning="The cluster does not accept the credentials.", next_step=step, **details)
    if http_status == 403:
        step = "Ask for the right, or see what you have with 'kubectl auth can-i --list'."
        return ClusterError(what, meaning="The user of this context may not do this.", next_step=step, **details)
    if http_status == 404:
        return InputError(what, next_step="Look for the right name with 'kubectl get'.", **details)
    if http_status == 409:
        step = "Look at the object as it is now, and try again."
        return ClusterError(what, meaning="It exists, or somebody else changed it.", next_step=step, **details)
    return ClusterError(what, next_step="Try again; when it stays, look at the cluster's log.", **details)


def _innermost(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    while isinstance(reason, BaseException):
        error, reason = reason, getattr(reason, "reason", None)
    text = str(error).split(">: ", 1)[-1]
    return re.sub(r"^\w+\([^)]*\): ", "", text).rstrip(".")
