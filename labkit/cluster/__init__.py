"""The seam: a cluster is something with a kubeconfig, spoken to through the `kubernetes` package and nothing else.

`opening.py` holds the one import of the embedded cluster; everything else here works the same on any cluster.
"""

from labkit.cluster.cluster import Cluster, Waiting
from labkit.cluster.execute import ExecResult
from labkit.cluster.kinds import Kind, Obj
from labkit.cluster.manifests import Document, load_documents
from labkit.cluster.opening import open_cluster
from labkit.cluster.problems import MANAGED_BY_LABEL, MANAGER

__all__ = [
    "MANAGED_BY_LABEL",
    "MANAGER",
    "Cluster",
    "Document",
    "ExecResult",
    "Kind",
    "Obj",
    "Waiting",
    "load_documents",
    "open_cluster",
]
