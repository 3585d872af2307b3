"""Meshes on platforms: the commands of their own tools, printed or run one by one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from labkit.cluster import Cluster
    from labkit.cluster.cluster import Change
    from labkit.views.recipes import Shown
    from labkit.views.results import Done


class Platforms:
    """What Lab knows of AKS, EKS, kind, Helm, istioctl and Terraform.

    lab.platform("aks", resource_group=...)  the commands, filled in; with run=3 the third of them is run, or refused
                                             in one line when its tool or the login is missing
    lab.annotate("service/web", {...}, ns)   `kubectl annotate`: where platforms are told what to do
    """

    cluster: Cluster

    if TYPE_CHECKING:

        def _after(self, changes: Iterable[Change]) -> None: ...
        def _done(self, changes: list[Change], kubectl: str | list[str], started: float) -> Done: ...

    def platform(self, name: str, *, run: int = 0, **settings: str) -> Shown:
        """The commands of a platform's tools, filled in from `settings`. Nothing is run, but the one that `run` names.

        Raises InputError for settings that cannot be. A missing program, or login, is shown and never raised.
        """
        return show_platform(name, run=run, **settings)

    def annotate(self, what: str, annotations: Mapping[str, str | None], namespace: str | None = None) -> Done:
        """Set annotations of an object, "service/web" for example; None removes one. The rest stays as it is."""
        started = time.monotonic()
        kind_name, slash, name = what.partition("/")
        if not (slash and name and annotations):
            raise InputError(
                "No object or no annotation was given.",
                next_step='Write lab.annotate("service/web", {"key": "value"}, "namespace").',
            )
        kind = self.cluster.kind(kind_name)
        where = (namespace or "default") if kind.namespaced else None
        change = self.cluster.patch(kind, name, {"metadata": {"annotations": dict(annotations)}}, where)
        self._after([change])
        pairs = " ".join(f"{key}-" if value is None else f"{key}={value}" for key, value in annotations.items())
        line = f"kubectl annotate {kind_name} {name}{f' -n {where}' if where else ''} --overwrite {pairs}"
        return self._done([change], line, started)


def show_platform(name: str, *, run: int = 0, machine: Any = None, **settings: str) -> Shown:
    """A recipe, filled in, and what came of its command number `run`."""
    from labkit.installers.recipes import recipe
    from labkit.installers.tools import Machine, missing, outcome
    from labkit.views.recipes import Shown

    found, machine = recipe(name, **settings), machine or Machine()
    if not run:
        return Shown(found, missing(found, machine))
    if not 1 <= run <= len(found.commands):
        raise InputError(
            f"The recipe {name!r} has no command {run}.", next_step=f"It has {len(found.commands)}; 0 prints them."
        )
    state, said = outcome(found.commands[run - 1], machine)
    return Shown(found, {}, run, state, said)
