"""What this machine has and lacks for the workshop, and the command that mends each lack.

Each check looks at the real thing: it runs the program, binds the address, lays out a graph.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

from labkit.cluster.opening import examine_embedded
from labkit.findings import Finding


def examine() -> list[Finding]:
    """Look at everything, in the order in which a lack would be met."""
    return [_python(), _packages(), *examine_embedded(), _graph_engine(), _kubectl(), _prometheus()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python 3.11 or newer", sys.version_info >= (3, 11), True, version, "Install Python 3.11 or newer.")


def _packages() -> Finding:
    names = ["aiohttp", "cryptography", "kubernetes", "pandas", "graphviz", "papermill", "jupyterlab", "ipywidgets"]
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    seen = "all there" if not missing else "missing: " + ", ".join(missing)
    return Finding(
        "Python packages", not missing, True, seen, f"{sys.executable} -m pip install -e . -c constraints.txt"
    )


def _graph_engine() -> Finding:
    mend = f"{sys.executable} -m pip install pygraphviz, or install Debian's graphviz"
    try:
        answer = subprocess.run(
            [sys.executable, "-c", "import pygraphviz as g; a=g.AGraph('digraph{a->b}'); a.layout('dot')"],
            capture_output=True,
            timeout=30,
        )
        if answer.returncode == 0:
            return Finding("Graph layout", True, True, "pygraphviz")
    except (OSError, subprocess.TimeoutExpired):
        pass
    dot = shutil.which("dot")
    return Finding("Graph layout", dot is not None, True, "dot" if dot else "no engine", mend)


def _kubectl() -> Finding:
    path = shutil.which("kubectl")
    mend = "Optional: the lessons run without it. Debian: apt-get install kubernetes-client"
    return Finding("kubectl", path is not None, False, path or "not found", mend)


def _prometheus() -> Finding:
    path = shutil.which("prometheus")
    mend = "Optional: lab.metrics() reads the proxies themselves. For PromQL on Debian: apt-get install prometheus"
    return Finding("Prometheus", path is not None, False, path or "not found", mend)
