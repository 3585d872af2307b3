"""What the image `prom/prometheus` starts here: the machine's `prometheus`, with its pod's network and files.

A Go program meets none of what this node does for programs of a pod (`podpython`, `.curlrc`), and a pod has no file
system of its own. So this reads the configuration that the pod was given and hands Prometheus one in which

1. the API server is where the pod finds it, with the account's token and the cluster's CA (what Prometheus does by
   itself in a real pod: rest.InClusterConfig of client-go),
2. paths lead below the pod's root,
3. ports below 1024 are asked for where they are, 20000 higher, while `instance` keeps what was written,
4. `localhost` is this pod, and names of Services are addresses,
5. `kubernetes_sd_configs` are files that `prometheus_discovery` keeps, where the program was built without Kubernetes
   service discovery, as Debian's is.

Then it becomes Prometheus. A changed ConfigMap counts from the next start of the pod.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from labkit.embedded.node import prometheus_discovery
from labkit.embedded.node.prometheus_discovery import ROLES

Config = dict[str, Any]

PROGRAM = "prometheus"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
MISSING = """\
This machine has no program 'prometheus', so this pod cannot run.
  What it means: the embedded cluster pulls no images; 'prom/prometheus' stands for the machine's own program.
  What to do:    install it (Debian and Ubuntu: apt-get install prometheus) and restart the pod, or do without:
                 lab.metrics() reads the proxies themselves and answers the same questions about now."""
NOT_FOUND = 127
NO_ACCOUNT = f"""\
No account is mounted at {ACCOUNT}, so this Prometheus cannot ask whom to scrape.
  What it means: this machine's Prometheus was built without Kubernetes service discovery; labkit does it in its place.
  What to do:    mount a token there, as manifests/addons/prometheus.yaml does (volume api-access)."""
UNKNOWN_ROLE = "This machine's Prometheus has no discovery of its own, and role %r is none of: %s."

DEFAULT_FILE, DEFAULT_PORT = "/etc/prometheus/prometheus.yml", 9090

# Adding 20000 by text: 80 -> 20080, 443 -> 20443, 1000 -> 21000.
_LOW_PORTS = (
    (r"(.+):(\d)", "$1:2000$2"),
    (r"(.+):(\d\d)", "$1:200$2"),
    (r"(.+):(\d{3})", "$1:20$2"),
    (r"(.+):1(0[01]\d|02[0-3])", "$1:21$2"),
)
_AT_DOOR = "__tmp_labkit_address"


def adapted(config: Config, pod: Pod, files: Discovered | None = None) -> Config:
    """The configuration as this pod's Prometheus needs it; `files` take the place of Kubernetes service discovery."""
    return {**config, "scrape_configs": [_job(job, pod, files) for job in config.get("scrape_configs") or ()]}


class Discovered:
    """The entries of `kubernetes_sd_configs` that have become files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.jobs: list[Config] = []

    def file(self, wanted: Config) -> Config:
        """The entry of `file_sd_configs` for one of `kubernetes_sd_configs`. Raises SystemExit for other roles."""
        if wanted.get("role") not in ROLES:
            print(UNKNOWN_ROLE % (wanted.get("role"), ", ".join(ROLES)), file=sys.stderr)
            raise SystemExit(2)
        path = self.directory / f"discovered-{len(self.jobs)}.json"
        self.jobs.append({**wanted, "file": str(path)})
        return {"files": [str(path)], "refresh_interval": "10s"}


class Pod:
    """Where a pod's programs find things."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.root = Path(environment["POD_ROOT"])
        self.environment = environment
        hosts: Config = json.loads(Path(environment["POD_HOSTS"]).read_text(encoding="utf-8"))
        self.own = str(hosts["own"])
        self.names: Mapping[str, str] = hosts["names"]

    def path(self, written: str) -> str:
        """A path of the pod; one that is not the pod's stays as it is."""
        inside = self.root / written.lstrip("/")
        return str(inside) if written.startswith("/") and inside.exists() else written

    def account(self) -> Config:
        """How to reach the API server: with the account that is mounted, else with the node's kubeconfig."""
        token, authority = (self.root / ACCOUNT.lstrip("/") / name for name in ("token", "ca.crt"))
        if not token.exists():
            return {"kubeconfig_file": self.environment["KUBECONFIG"]}
        host, port = self.environment["KUBERNETES_SERVICE_HOST"], self.environment["KUBERNETES_SERVICE_PORT"]
        return {
            "api_server": f"https://{host}:{port}",
            "authorization": {"credentials_file": str(token)},
            "tls_config": {"ca_file": str(authority)},
        }

    def target(self, written: str) -> str:
        """`host:port` of a static target as an address."""
        host, colon, port = written.rpartition(":")
        if not colon:
            host, port = written, ""
        known = self.own if host in ("localhost", "127.0.0.1") else self.names.get(host, host)
        return f"{known}{colon}{port}"


def _job(job: Config, pod: Pod, files: Discovered | None) -> Config:
    job = _with_paths(job, pod)
    if found := job.pop("kubernetes_sd_configs", None):
        if files:
            job["file_sd_configs"] = [*(job.get("file_sd_configs") or ()), *map(files.file, found)]
        else:
            own = {"api_server", "kubeconfig_file"}
            job["kubernetes_sd_configs"] = [one if own & one.keys() else {**pod.account(), **one} for one in found]
    if job.get("static_configs"):
        job["static_configs"] = [each for group in job["static_configs"] for each in _static(group, pod)]
    job["relabel_configs"] = [*(job.get("relabel_configs") or ()), *_to_the_door()]
    return job


def _static(group: Config, pod: Pod) -> Iterator[Config]:
    """Each target of its own, so that it can keep its name."""
    for written in group.get("targets") or ():
        target = pod.target(written)
        labels = dict(group.get("labels") or {})
        if target != written:
            labels.setdefault("instance", written)
        yield {**group, "targets": [target], "labels": labels}


def _to_the_door() -> Iterator[Config]:
    """The last rules of a job: where the address is really asked. `instance` is what the address was."""
    yield {"source_labels": ["instance", "__address__"], "regex": ";(.+)", "target_label": "instance"}
    for regex, door in (("(.*)", "$1"), *_LOW_PORTS):
        yield {"source_labels": ["__address__"], "regex": regex, "target_label": _AT_DOOR, "replacement": door}
    yield {"source_labels": [_AT_DOOR], "target_label": "__address__"}


def _with_paths(value: Any, pod: Pod) -> Any:
    """A copy in which every value of a field `*_file` leads below the pod's root."""
    if isinstance(value, dict):
        return {
            key: pod.path(each) if key.endswith("_file") and isinstance(each, str) else _with_paths(each, pod)
            for key, each in value.items()
        }
    return [_with_paths(each, pod) for each in value] if isinstance(value, list) else value


def command(arguments: list[str], pod: Pod, program: str, files: Discovered | None = None) -> list[str]:
    """The command line for the machine's program; the configuration is written to a file of the pod."""
    given = dict(argument.lstrip("-").partition("=")[::2] for argument in arguments)
    file = Path(pod.path(given.pop("config.file", DEFAULT_FILE)))
    written = pod.root / "prometheus.adapted.yml"
    config = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    written.write_text(yaml.safe_dump(adapted(config, pod, files), sort_keys=False), encoding="utf-8")
    port = given.pop("web.listen-address", f":{DEFAULT_PORT}").rpartition(":")[2]
    data = pod.path(given.pop("storage.tsdb.path", "/prometheus"))
    if not data.startswith(str(pod.root)):
        data = str(pod.root / data.lstrip("/"))
    console = {"web.console.templates", "web.console.libraries"}  # files of the image, which is none
    rest = [f"--{name}={value}" if value else f"--{name}" for name, value in given.items() if name not in console]
    own = [f"--config.file={written}", f"--storage.tsdb.path={data}", f"--web.listen-address={pod.own}:{port}"]
    return [program, *own, *rest]


def discovers(program: str) -> bool:
    """Whether a Prometheus was built with Kubernetes service discovery: its package's name is in the program."""
    with Path(program).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"prometheus/discovery/kubernetes") >= 0


def start_discovery(files: Discovered, pod: Pod) -> None:
    """Start the program that keeps the files; it ends when this process, which becomes Prometheus, does."""
    account = pod.account()
    if "api_server" not in account:
        print(NO_ACCOUNT, file=sys.stderr)
        raise SystemExit(2)
    plan = {
        "server": account["api_server"],
        "token_file": account["authorization"]["credentials_file"],
        "ca_file": account["tls_config"]["ca_file"],
        "jobs": files.jobs,
    }
    written = pod.root / "discovery.json"
    written.write_text(json.dumps(plan), encoding="utf-8")
    program = Path(prometheus_discovery.__file__)
    subprocess.Popen([sys.executable, "-S", "-E", str(program), str(written), str(os.getpid())])


def main() -> None:
    """Become Prometheus."""
    program = shutil.which(PROGRAM)
    if program is None:
        print(MISSING, file=sys.stderr)
        raise SystemExit(NOT_FOUND)
    pod = Pod(os.environ)
    files = None if discovers(os.path.realpath(program)) else Discovered(pod.root)
    argv = command(sys.argv[1:], pod, program, files)
    if files and files.jobs:
        start_discovery(files, pod)
    os.execv(program, argv)


if __name__ == "__main__":
    main()
