"""What the image `prom/prometheus` starts here: the machine's `prometheus`, with its pod's network and files.

A Go program meets none of what this node does for programs of a pod (`podpython`, `.curlrc`), and a pod has no file
system of its own. So this reads the configuration that the pod was given and hands Prometheus one in which

1. the API server is where the pod finds it, with the account's token and the cluster's CA (what Prometheus does by
   itself in a real pod: rest.InClusterConfig of client-go), mounted or not,
2. paths lead below the pod's root,
3. ports below 1024 are asked for where they are, 20000 higher, while `instance` keeps what was written,
4. `localhost` is this pod, and names of Services are addresses,
5. `kubernetes_sd_configs` are files that `prometheus_discovery` keeps, where the program was built without Kubernetes
   service discovery, as Debian's is.

Then it becomes Prometheus. A changed ConfigMap counts from the next start of the pod; sooner where a config reloader
stands beside it, as in Istio's add-on (`prometheus_reload`).
"""

from __future__ import annotations

import base64
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
MADE_OF = "prometheus.made-of.json"
UNKNOWN_ROLE = "Left out: this machine's Prometheus has no discovery of its own, and role %r is none of: %s."

DEFAULT_FILE, DEFAULT_PORT = "/etc/prometheus/prometheus.yml", 9090

# Adding 20000 by text: 80 -> 20080, 443 -> 20443, 1000 -> 21000.
_LOW_PORTS = (
    (r"(.+):(\d)", "$1:2000$2"),
    (r"(.+):(\d\d)", "$1:200$2"),
    (r"(.+):(\d{3})", "$1:20$2"),
    (r"(.+):1(0[01]\d|02[0-3])", "$1:21$2"),
)
_API_SERVER = r"kubernetes\.default\.svc(?:\.cluster\.local)?(?::443)?"
"""What jobs about nodes write for their address."""

_AT_DOOR = "__tmp_labkit_address"


def adapted(config: Config, pod: Pod, files: Discovered | None = None) -> Config:
    """The configuration as this pod's Prometheus needs it; `files` take the place of Kubernetes service discovery."""
    rules = {"rule_files": [pod.path(each) for each in config["rule_files"]]} if config.get("rule_files") else {}
    return {**config, **rules, "scrape_configs": [_job(job, pod, files) for job in config.get("scrape_configs") or ()]}


class Discovered:
    """The entries of `kubernetes_sd_configs` that have become files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.jobs: list[Config] = []

    def file(self, wanted: Config) -> Config:
        """The entry of `file_sd_configs` for one of `kubernetes_sd_configs`; an empty one for a role not known."""
        if wanted.get("role") not in ROLES:
            print(UNKNOWN_ROLE % (wanted.get("role"), ", ".join(ROLES)), file=sys.stderr)
            return {"files": [str(self.directory / "discovered-nothing.json")]}
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

    @property
    def api_server(self) -> str:
        """Its address and port."""
        return f"{self.environment['KUBERNETES_SERVICE_HOST']}:{self.environment['KUBERNETES_SERVICE_PORT']}"

    def account(self) -> Config:
        """How to reach the API server: with the account that is mounted."""
        token, authority = (self.root / ACCOUNT.lstrip("/") / name for name in ("token", "ca.crt"))
        if not token.exists():
            self._mount_account(token.parent)
        return {
            "api_server": f"https://{self.api_server}",
            "authorization": {"credentials_file": str(token)},
            "tls_config": {"ca_file": str(authority)},
        }

    def _mount_account(self, directory: Path) -> None:
        """Do what Kubernetes does for each pod that does not forbid it, and this node for none."""
        config = yaml.safe_load(Path(self.environment["KUBECONFIG"]).read_text(encoding="utf-8"))
        directory.mkdir(parents=True, exist_ok=True)
        authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
        for name, content in (("ca.crt", authority), ("token", config["users"][0]["user"]["token"].encode())):
            descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)

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
    job["relabel_configs"] = [*(job.get("relabel_configs") or ()), *_to_the_door(pod)]
    return job


def _static(group: Config, pod: Pod) -> Iterator[Config]:
    """Each target of its own, so that it can keep its name."""
    for written in group.get("targets") or ():
        target = pod.target(written)
        labels = dict(group.get("labels") or {})
        if target != written:
            labels.setdefault("instance", written)
        yield {**group, "targets": [target], "labels": labels}


def _to_the_door(pod: Pod) -> Iterator[Config]:
    """The last rules of a job: where the address is really asked. `instance` is what the address was."""
    yield {"source_labels": ["instance", "__address__"], "regex": ";(.+)", "target_label": "instance"}
    for regex, door in (("(.*)", "$1"), *_LOW_PORTS, (_API_SERVER, pod.api_server)):
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
    written = write_adapted(Path(pod.path(given.pop("config.file", DEFAULT_FILE))), pod, files)
    port = given.pop("web.listen-address", f":{DEFAULT_PORT}").rpartition(":")[2]
    data = pod.path(given.pop("storage.tsdb.path", "/prometheus"))
    if not data.startswith(str(pod.root)):
        data = str(pod.root / data.lstrip("/"))
    console = {"web.console.templates", "web.console.libraries"}  # files of the image, which is none
    rest = [f"--{name}={value}" if value else f"--{name}" for name, value in given.items() if name not in console]
    own = [f"--config.file={written}", f"--storage.tsdb.path={data}", f"--web.listen-address={pod.own}:{port}"]
    return [program, *own, *rest]


def write_adapted(source: Path, pod: Pod, files: Discovered | None) -> Path:
    """Write what Prometheus is to read, and for `prometheus_reload` what that was made of."""
    pod.account()  # jobs may name its files
    config = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
    text = yaml.safe_dump(adapted(config, pod, files), sort_keys=False)
    written = pod.root / "prometheus.adapted.yml"
    written.write_text(text, encoding="utf-8")
    (pod.root / MADE_OF).write_text(json.dumps({"source": str(source), "discovers": files is None}), encoding="utf-8")
    return written


def adapt_again(pod: Pod) -> None:
    """Do it again after the pod's configuration has changed; discovery follows what is asked for now."""
    made_of = json.loads((pod.root / MADE_OF).read_text(encoding="utf-8"))
    files = None if made_of["discovers"] else Discovered(pod.root)
    write_adapted(Path(made_of["source"]), pod, files)
    if files:
        write_plan(files, pod)


def discovers(program: str) -> bool:
    """Whether a Prometheus was built with Kubernetes service discovery: its package's name is in the program."""
    with Path(program).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"prometheus/discovery/kubernetes") >= 0


def write_plan(files: Discovered, pod: Pod) -> Path:
    """Write what the program that keeps the files is to look for."""
    account = pod.account()
    plan = {
        "server": account["api_server"],
        "token_file": account["authorization"]["credentials_file"],
        "ca_file": account["tls_config"]["ca_file"],
        "jobs": files.jobs,
    }
    written = pod.root / "discovery.json"
    aside = written.with_suffix(".new")
    aside.write_text(json.dumps(plan), encoding="utf-8")
    aside.replace(written)
    return written


def start_discovery(files: Discovered, pod: Pod) -> None:
    """Start the program that keeps the files; it ends when this process, which becomes Prometheus, does."""
    written = write_plan(files, pod)
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
    if files:
        start_discovery(files, pod)
    os.execv(program, argv)


if __name__ == "__main__":
    main()
