"""What is stored here and acted on by nobody, and what cannot be had at all: said when it is asked for. Pure.

A cluster has a controller for each of these kinds. Here the objects are kept, so that manifests apply and tools can
read them, but nothing follows from them; without a word about it somebody would wait for ever.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

# A warning is one line that kubectl prints: https://kubernetes.io/blog/2020/09/03/warnings/
NOBODY_ACTS = {
    "apps/statefulsets": "no pods are made from a StatefulSet on the embedded cluster; use a Deployment",
    "apps/daemonsets": "no pods are made from a DaemonSet on the embedded cluster; it has one node, use a Deployment",
    "batch/cronjobs": "a CronJob starts nothing on the embedded cluster; create a Job from it: "
    "kubectl create job NAME --from=cronjob/...",
    "networking.k8s.io/ingresses": "no ingress controller runs on the embedded cluster; use an Istio Gateway",
    "networking.k8s.io/networkpolicies": "a NetworkPolicy blocks nothing on the embedded cluster, whose pods share "
    "one network; use an AuthorizationPolicy",
    "/resourcequotas": "a ResourceQuota limits nothing on the embedded cluster",
    "/limitranges": "a LimitRange limits nothing on the embedded cluster",
    "policy/poddisruptionbudgets": "a PodDisruptionBudget protects nothing on the embedded cluster, which has one node",
    "/persistentvolumeclaims": "no volumes are provisioned on the embedded cluster: the claim stays Pending, and so "
    "do pods that use it; use an emptyDir volume",
}


def warning_for(group: str, plural: str) -> str | None:
    """What to tell somebody who creates an object of this kind; None where everything is as usual."""
    return NOBODY_ACTS.get(f"{group}/{plural}")


NODE_DEBUGGER = (
    "the node of the embedded cluster is this machine: its files are not below /host here; "
    "what this pod has of a node is tcpdump, which sees what crosses to all pods"
)


def is_node_debugger(pod: Object) -> bool:
    """Whether this is the pod that `kubectl debug node/NAME` makes: the host's processes, with its file system at
    /host. (k8s.io/kubectl/pkg/cmd/debug, generateNodeDebugPod)
    """
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        return False
    volumes = spec.get("volumes") or []
    mounts_root = any((one.get("hostPath") or {}).get("path") == "/" for one in volumes if isinstance(one, dict))
    return bool(mounts_root and (spec.get("hostPID") or spec.get("hostNetwork")))
