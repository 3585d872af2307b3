"""What an istiod is told by its environment: where it runs, for which revision, and its defaults.

The variables are Istio's, https://istio.io/latest/docs/reference/commands/pilot-discovery/#envvars, and those that
every pod of this cluster has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from labkit.embedded.controlplane.agent import VERSION, XDS_MOUNT, xds_socket
from labkit.errors import InputError
from labkit.policy.injection import DEFAULT_REVISION

READY_PORT, MONITORING_PORT, WEBHOOK_PORT = 8080, 15014, 15017

_UNITS = {"h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}


def duration(text: str, where: str) -> timedelta:
    """A duration as Go writes it, such as `24h` or `1h30m`."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InputError(
            f"{where} is {text!r}, which is no duration.", next_step="Write it as 24h, 90m or 1h30m.", field=where
        )
    total = sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())
    if total <= timedelta():
        raise InputError(f"{where} must be longer than nothing.", field=where)
    return total


@dataclass(frozen=True)
class Settings:
    """One istiod. `suffix` is what the names of its objects end with when it is not the default revision."""

    namespace: str
    address: str
    kubeconfig: Path
    xds_root: Path
    xds_socket: Path
    revision: str = DEFAULT_REVISION
    service: str = "istiod"
    certificate_ttl: timedelta = timedelta(hours=24)
    version: str = VERSION

    @property
    def suffix(self) -> str:
        return "" if self.revision == DEFAULT_REVISION else f"-{self.revision}"

    @property
    def mesh_config_name(self) -> str:
        """The ConfigMap with the mesh's settings."""
        return f"istio{self.suffix}"

    @property
    def injector_config_name(self) -> str:
        """The ConfigMap with the injection's settings."""
        return f"istio-sidecar-injector{self.suffix}"

    @property
    def service_names(self) -> list[str]:
        """What the webhook server's certificate is for."""
        short = f"{self.service}.{self.namespace}"
        return [f"{short}.svc", f"{short}.svc.cluster.local", short, self.service]


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read the environment of an istiod's container."""
    try:
        return Settings(
            namespace=environment["POD_NAMESPACE"],
            address=environment["POD_IP"],
            kubeconfig=Path(environment["KUBECONFIG"]),
            xds_root=Path(environment["POD_ROOT"]) / XDS_MOUNT,
            xds_socket=xds_socket(environment),
            revision=environment.get("REVISION") or DEFAULT_REVISION,
            service=environment.get("ISTIOD_SERVICE") or "istiod",
            certificate_ttl=duration(
                environment.get("DEFAULT_WORKLOAD_CERT_TTL") or "24h", "DEFAULT_WORKLOAD_CERT_TTL"
            ),
        )
    except KeyError as error:
        raise InputError(
            f"istiod needs {error.args[0]} in its environment.",
            next_step="Run it as the mesh's installer does: as a pod of the embedded cluster.",
        ) from error


def from_process() -> Settings:
    """The settings of this process."""
    return settings_from(os.environ)
