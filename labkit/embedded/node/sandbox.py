"""The place in which a pod's containers run: its directories, its network files, the environment of a container.

A container's process gets the pod's variables on top of what its manifest says. Those by which the node finds a
process again (POD_ROOT) and by which programs find the pod's network cannot be overridden by a manifest.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.embedded.addresses import node_ip, pod_ip
from labkit.embedded.apiclient import CONFIGMAPS, SECRETS, SERVICEACCOUNTS, ApiClient, ApiError, Informer, Object
from labkit.embedded.node import network
from labkit.embedded.node.environment import PodFacts, Reference, Sources, expand, references, resolve
from labkit.embedded.node.events import EventRecorder
from labkit.embedded.node.images import CATALOGUE, PACKAGE, Image, command_of, find_image, read_user_images
from labkit.embedded.node.logs import LogWatcher
from labkit.embedded.node.records import PodRecord
from labkit.embedded.node.volumes import below, prepare_volumes, translate_path
from labkit.embedded.paths import ClusterPaths, labkit_home, private_dir
from labkit.errors import MachineError
from labkit.policy.injection import DEFAULT_REVISION, REVISION
from labkit.policy.workload import PROXY_CONTAINER

log = logging.getLogger(__name__)

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POD_PYTHON = Path(__file__).parent / "podpython"


@dataclass
class NodeContext:
    """What all pods of the node share."""

    paths: ClusterPaths
    block: int
    node_name: str
    api: ApiClient
    kubeconfig: Path
    api_port: int
    events: EventRecorder
    services: Informer
    sandboxes: Callable[[], list[Sandbox]]
    logs: LogWatcher
    rows: network.RowAllocator = field(default_factory=network.RowAllocator)
    service_entries: Informer | None = None
    mesh_configs: Informer | None = None

    @property
    def pods_dir(self) -> Path:
        return self.paths.node_dir / "pods"

    @property
    def host_ip(self) -> str:
        return node_ip(self.block)


class ProgramNotFoundError(MachineError):
    """A program that a container or `kubectl exec` asks for cannot be executed. The message has runc's words."""


class Sandbox:
    """One pod's place. It changes nothing of the world but files below its directories."""

    def __init__(self, node: NodeContext, pod: Object, record: PodRecord) -> None:
        self.node = node
        self.pod = pod
        self.record = record
        self.directory = node.pods_dir / record.uid
        self.root = self.directory / "root"
        self.net = self.directory / "net"
        self.pod_ip = pod_ip(node.block, record.row)
        self._environments: dict[str, dict[str, str]] = {}
        # Sockets have short paths, so this is named by the row and not by the uid.
        self.run_dir = node.paths.run_dir / "p" / str(record.row)

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def facts(self) -> PodFacts:
        return PodFacts(self.pod, self.pod_ip, self.node.host_ip, self.node.node_name)

    def make(self) -> None:
        """Make the directories; the first thing written is the record, so that nothing is ever left unowned."""
        private_dir(self.directory)
        self.save()
        private_dir(self.run_dir.parent)
        private_dir(self.run_dir)
        for path in (self.root, self.net, self.net / "exempt"):
            path.mkdir(exist_ok=True)
        self.write_network()

    def renew(self) -> None:
        """Forget what the last life of the pod left: its redirection, its programs' files, its sockets."""
        (self.net / "redirect.json").unlink(missing_ok=True)
        for path in (self.root, self.directory / "volumes", self.run_dir):
            shutil.rmtree(path, ignore_errors=True)
        self.make()

    def remove(self) -> None:
        """Remove everything of the pod."""
        shutil.rmtree(self.run_dir, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def save(self) -> None:
        """Write the record; a pod whose directory is gone has none any more. Raises OSError when the disk is full."""
        if self.directory.exists():
            self.record.save(self.directory)

    def note(self) -> None:
        """Write the record if that is possible. What has happened has happened, and life goes on."""
        try:
            self.save()
        except OSError as error:
            log.warning("the record of %s was not written: %s", self.record.name, error)

    # The network

    @property
    def redirect(self) -> network.Redirect | None:
        return network.Redirect.read(self.net)

    def write_network(self) -> None:
        """Bring hosts.json and .curlrc up to date, for the pod's programs and for the exempt user."""
        if not self.net.exists():
            return
        services = sorted(self.node.services.objects.values(), key=_full_name)
        pods = sorted((sandbox.pod_ip, network.low_ports(sandbox.pod)) for sandbox in self.node.sandboxes())
        entries = self.node.service_entries.objects.values() if self.node.service_entries else ()
        outside = network.outside_hosts(entries, self.namespace)
        redirect, name, port = self.redirect, str(self.pod["metadata"]["name"]), self.node.api_port
        gateway = redirect is None and any(one["name"] == PROXY_CONTAINER for one in self.pod["spec"]["containers"])
        for directory, exempt in ((self.net, False), (self.net / "exempt", True)):
            view = network.view_of(
                self.namespace,
                name,
                self.pod_ip,
                redirect,
                exempt=exempt,
                registry_only=self._registry_only,
                gateway=gateway,
            )
            network.write_text(directory / "hosts.json", network.render_hosts(view, services, port, outside))
            network.write_text(directory / ".curlrc", network.render_curlrc(view, services, pods, port, outside))

    @property
    def _registry_only(self) -> bool:
        metadata = self.pod["metadata"]
        # Injection notes the revision of the mesh; a gateway has it as a label.
        revision = (metadata.get("annotations") or {}).get(REVISION) or (metadata.get("labels") or {}).get(REVISION)
        revision = revision or DEFAULT_REVISION
        name = "istio" if revision == DEFAULT_REVISION else f"istio-{revision}"
        known = self.node.mesh_configs.objects if self.node.mesh_configs else {}
        named = (one.get("data") or {} for one in known.values() if one["metadata"]["name"] == name)
        return network.is_registry_only(next((data["mesh"] for data in named if "mesh" in data), ""))

    def _net_of(self, container: Object) -> Path:
        redirect = self.redirect
        user = (container.get("securityContext") or {}).get("runAsUser")
        exempt = redirect and (container["name"] == PROXY_CONTAINER or user == redirect.uid)
        return self.net / "exempt" if exempt else self.net

    # Volumes

    async def prepare_volumes(self) -> None:
        """Make the volumes and their mounts. Raises ContainerConfigError FailedMount."""
        hostfs = self.node.paths.node_dir / "hostfs"
        await prepare_volumes(self.pod, self.directory, hostfs, self.facts, self._fetch, self._token)

    async def _fetch(self, reference: Reference) -> Object | None:
        resource = CONFIGMAPS if reference.kind == "ConfigMap" else SECRETS
        try:
            return await self.node.api.get(resource, reference.name, self.namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _token(self, projection: Mapping[str, Any]) -> str | None:
        account = str(self.pod["spec"].get("serviceAccountName") or "default")
        audience = projection.get("audience")
        spec = {
            "audiences": [audience] if audience else [],
            "expirationSeconds": projection.get("expirationSeconds") or 3600,
        }
        path = SERVICEACCOUNTS.path(self.namespace, account, "token")
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        try:
            answer = await self.node.api.request("POST", path, body=body)
            return str(answer["status"]["token"])
        except (ApiError, KeyError):
            return None  # an API server without TokenRequest: pods use KUBECONFIG

    # Containers

    def image_of(self, container: Object) -> Image:
        """The image of a container. Raises ContainerConfigError InvalidImageName or ErrImagePull."""
        users = read_user_images(labkit_home() / "images.yaml")
        return find_image(container["image"], (*users, *CATALOGUE))

    async def environment(self, container: Object) -> dict[str, str]:
        """All variables of a container. Raises ContainerConfigError when an object that it names is missing."""
        wanted = sorted(references(container), key=lambda r: (r.kind, r.name))
        found = await asyncio.gather(*(self._fetch(reference) for reference in wanted))
        configmaps = {r.name: o for r, o in zip(wanted, found, strict=True) if r.kind == "ConfigMap" and o}
        secrets = {r.name: o for r, o in zip(wanted, found, strict=True) if r.kind == "Secret" and o}
        variables = resolve(container, self.facts, Sources(configmaps, secrets), self._base())
        variables.update(self._fixed(container))
        variables["PATH"] = f"{self._bin(container)}:{variables['PATH']}"
        if "PYTHONPATH" in variables:
            variables["PYTHONPATH"] = f"{POD_PYTHON}:{variables['PYTHONPATH']}"
        else:
            variables["PYTHONPATH"] = f"{POD_PYTHON}:{PACKAGE.parent}"
        self._environments[container["name"]] = variables
        return dict(variables)

    async def running_environment(self, container: Object) -> dict[str, str]:
        """The variables with which a container was started, whatever became of its ConfigMaps since then.

        Of a container that an earlier supervisor started: those with which it would be started now.
        """
        known = self._environments.get(container["name"])
        return dict(known) if known else await self.environment(container)

    def _base(self) -> dict[str, str]:
        """What a manifest may override."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH') or SYSTEM_PATH}",
            "HOSTNAME": str(self.pod["spec"].get("hostname") or self.pod["metadata"]["name"]),
            "HOME": str(self.root),
            "LANG": "C.UTF-8",
            "KUBERNETES_SERVICE_HOST": self.node.host_ip,
            "KUBERNETES_SERVICE_PORT": str(self.node.api_port),
            "KUBECONFIG": str(self.node.kubeconfig),
            "PYTHONUNBUFFERED": "1",  # 'kubectl logs' must show a line when it is printed
        }

    def _fixed(self, container: Object) -> dict[str, str]:
        """What a manifest may not override: by these the pod is found, and finds its network."""
        view = self._net_of(container)
        return {
            "POD_ROOT": str(self.root),
            "POD_CONTAINER": str(container["name"]),
            "POD_NET": str(self.net),
            "POD_RUN": str(self.run_dir),
            "POD_HOSTS": str(view / "hosts.json"),
            "CURL_HOME": str(view),
        }

    def _bin(self, container: Object) -> Path:
        return self.directory / "bin" / str(container["name"])

    def write_programs(self, container: Object, image: Image) -> None:
        """Put the image's own programs on the container's PATH, as small scripts."""
        directory = self._bin(container)
        directory.mkdir(parents=True, exist_ok=True)
        for name, argv in image.programs.items():
            script = directory / name
            network.write_text(script, f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n')
            script.chmod(0o700)

    def working_directory(self, container: Object) -> Path:
        """workingDir below the pod's root, or the root."""
        directory = below(self.root, container.get("workingDir") or "/")
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def command(self, container: Object, image: Image, env: Mapping[str, str]) -> list[str]:
        """What to execute for a container. Raises ContainerConfigError or ProgramNotFoundError."""
        argv = [expand(word, env) for word in command_of(container, image)]
        return self.resolve(container, argv, env)

    def resolve(self, container: Object, argv: list[str], env: Mapping[str, str]) -> list[str]:
        """A command line with its program found and paths below mounts translated."""
        words = [translate_path(word, container, self.root) for word in argv]
        return [self._program(container, words[0], env), *words[1:]]

    def _program(self, container: Object, name: str, env: Mapping[str, str]) -> str:
        path = env.get("PATH", "")
        if "/" not in name:
            found = shutil.which(name, path=path)
            if found is None:
                raise _not_found(name, f'exec: "{name}": executable file not found in $PATH')
            return found
        for candidate in (str(below(self.root, name)), name, str(self._bin(container) / Path(name).name)):
            if shutil.which(candidate):
                return candidate
        if below(self.root, name).exists() or Path(name).exists():
            raise ProgramNotFoundError(f'exec: "{name}": permission denied', program=name)
        # Images keep their programs where this machine may not: /usr/local/bin/curl is the machine's curl.
        base = shutil.which(Path(name).name, path=path) if Path(name).parent.name in ("bin", "sbin") else None
        if base is None:
            raise _not_found(name, f'exec: "{name}": stat {name}: no such file or directory')
        return base


def _not_found(name: str, message: str) -> ProgramNotFoundError:
    if Path(name).name == "curl":
        message += (
            " (pods use this machine's curl, and it has none: install it, for example with"
            " 'apt-get install curl', or see 'labkit doctor')"
        )
    return ProgramNotFoundError(message, program=name)


def _full_name(obj: Mapping[str, Any]) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
