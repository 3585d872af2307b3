"""The image catalogue: an image reference -> the program that stands in for it. Pure, but for reading one file.

There is no container runtime. A reference is matched by the last components of its path, so that
`myregistry.azurecr.io/chatbackend:v3` finds `chatbackend`: registry, tag and digest say where an image is stored,
not what it does. Who wants another image adds it to `images.yaml` in the directory of all clusters (see
`read_user_images`); what every learner should have goes into `CATALOGUE` below.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from labkit.embedded.node.environment import ContainerConfigError
from labkit.errors import InputError

PACKAGE = Path(__file__).resolve().parents[2]
"""The directory of the package `labkit`."""

# The interpreter that runs the cluster runs the images' programs too.
PYTHON = sys.executable

TCPDUMP = (PYTHON, "-S", "-m", "labkit.embedded.wire.tcpdump")

AGENT = (PYTHON, "-S", "-E", str(PACKAGE / "embedded" / "controlplane" / "agent.py"))


@dataclass(frozen=True)
class Image:
    """What runs when a container asks for one of `paths`.

    `command` and `args` are what ENTRYPOINT and CMD are to a real image. `programs` are put on the container's
    PATH; `needs` are programs of the machine itself, for a clear message when one is missing.
    """

    paths: tuple[str, ...]
    description: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    programs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.paths[0]


def _app(name: str, description: str) -> Image:
    return Image((name,), description, command=(PYTHON, str(PACKAGE / "apps" / f"{name}.py")))


CATALOGUE: tuple[Image, ...] = (
    _app("chatfrontend", "the chat application's web page, on port 80"),
    _app("chatbackend", "the chat application's model, POST /chat on port 5000"),
    Image(
        ("mtlslab/apps",),
        "all applications of the lessons; its first argument names one, such as sentences or echoserver",
        command=(PYTHON, str(PACKAGE / "apps" / "run.py")),
    ),
    Image(
        ("curlimages/curl", "curl"),
        "curl, to send requests by hand; most often run with 'sleep'",
        command=("curl",),
        args=("--help",),
        needs=("curl",),
    ),
    Image(("alpine/curler", "curler"), "a shell, and curl in it", args=("sh",), needs=("curl",)),
    Image(("busybox", "alpine"), "sh, sleep and the machine's other small programs", args=("sh",)),
    Image(("python",), "the Python that runs the cluster", command=(PYTHON,)),
    Image(
        ("istio/pilot", "pilot"),
        "istiod, the mesh's control plane",
        command=(PYTHON, "-m", "labkit.embedded.controlplane"),
    ),
    Image(
        ("istio/proxyv2", "proxyv2"),
        "the sidecar: Envoy and pilot-agent; also istio-init",
        command=("pilot-agent",),
        # `sudo tcpdump` in the proxy is how Istio's page on the migration to mutual TLS looks at the wire.
        programs={"pilot-agent": AGENT, "tcpdump": TCPDUMP, "sudo": ("env",)},
    ),
    Image(
        ("nicolaka/netshoot", "netshoot", "tcpdump"),
        "a shell with tcpdump, for a look at what crosses to a pod's ports (kubectl debug)",
        args=("sh",),
        programs={"tcpdump": TCPDUMP},
    ),
    Image(
        ("prom/prometheus", "prometheus"),
        "Prometheus, if this machine has it (Debian's package 'prometheus')",
        command=(PYTHON, str(PACKAGE / "embedded" / "node" / "prometheus_start.py")),
        needs=("prometheus",),
    ),
    Image(
        ("prometheus-operator/prometheus-config-reloader", "prometheus-config-reloader"),
        "tells Prometheus beside it when its configuration has changed, as in Istio's add-on",
        command=(PYTHON, str(PACKAGE / "embedded" / "node" / "prometheus_reload.py")),
    ),
    Image(("pause",), "nothing, for ever", command=("sleep", "infinity")),
)

# The grammar of references, https://github.com/distribution/reference: [domain/]path[:tag][@digest]
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>[A-Za-z][\w+.-]*:[0-9a-fA-F]{32,}))?"
)


def repository_of(reference: str) -> str:
    """The path of a reference without registry, tag and digest. Raises ContainerConfigError InvalidImageName."""
    match = _REFERENCE.fullmatch(reference)
    if not match:
        hint = " (a shell variable was not replaced)" if "$" in reference else ""
        raise ContainerConfigError(
            f'couldn\'t parse image name "{reference}": invalid reference format{hint}', reason="InvalidImageName"
        )
    domain, path = match["domain"], match["path"]
    # The first component is a registry only if it looks like a host; otherwise it belongs to the path.
    if domain and not ("." in domain or ":" in domain or domain == "localhost"):
        return f"{domain}/{path}"
    return path


def find_image(reference: str, catalogue: Iterable[Image] = CATALOGUE) -> Image:
    """The image for a reference; the longest matching path wins.

    Raises ContainerConfigError with the reason InvalidImageName or ErrImagePull.
    """
    path = repository_of(reference)
    catalogue = tuple(catalogue)
    matches = [
        (len(known), position, image)
        for position, image in enumerate(catalogue)
        for known in image.paths
        if path == known or path.endswith(f"/{known}")
    ]
    if matches:
        return min(matches, key=lambda match: (-match[0], match[1]))[2]
    raise ContainerConfigError(
        f'failed to pull image "{reference}": the embedded cluster has no container runtime and no such program. '
        f"It knows the images: {', '.join(sorted(image.name for image in catalogue))} (any registry, any tag). "
        f"To add one, name its command in {USER_IMAGES}; see 'labkit/embedded/node/images.py'.",
        reason="ErrImagePull",
    )


USER_IMAGES = "images.yaml in the state directory (LABKIT_HOME)"


def read_user_images(file: Path) -> tuple[Image, ...]:
    """The images of a file like the following; an absent file has none. Raises InputError when it is malformed.

    myteam/hello:
      description: says hello on port 8080
      command: ["python", "/home/me/hello.py"]
      args: ["--port", "8080"]
    """
    if not file.exists():
        return ()
    try:
        content = yaml.safe_load(file.read_text()) or {}
        return tuple(_user_image(name, entry) for name, entry in content.items())
    except (yaml.YAMLError, AttributeError, TypeError, KeyError, OSError) as error:
        raise InputError(
            f"{file} does not describe images.",
            meaning=str(error).splitlines()[0],
            next_step="Write one entry per image: 'name: {command: [program, argument], description: text}'.",
        ) from error


def _user_image(name: str, entry: Mapping[str, Any]) -> Image:
    command, args = entry["command"], entry.get("args") or []
    if not isinstance(command, list) or not isinstance(args, list):
        raise TypeError(f"command and args of {name} are lists")
    return Image(
        (repository_of(name),),
        str(entry.get("description", "")),
        command=tuple(map(str, command)),
        args=tuple(map(str, args)),
    )


def command_of(container: Mapping[str, Any], image: Image) -> list[str]:
    """What to execute: `command` replaces the image's command and its args, `args` only the args.

    https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
    """
    command, args = container.get("command"), container.get("args")
    if command:
        argv = [*command, *(args or [])]
    else:
        argv = [*image.command, *(args if args else image.args)]
    if not argv:
        raise ContainerConfigError("no command specified", reason="CreateContainerError")
    return [str(word) for word in argv]
