"""Objects of Kubernetes that several worlds of tests apply."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def one_pod(name: str, namespace: str, container: Object, **metadata: Any) -> Object:
    """A Deployment of one pod labelled `app`, with one container; `metadata` is for the pod."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, **metadata}, "spec": {"containers": [container]}},
        },
    }
