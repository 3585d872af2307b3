"""The values that Kubernetes fills in when a manifest leaves them out. Pure; changes the object it is given.

As in pkg/apis/*/v1/defaults.go of Kubernetes, for the fields that clients look at. Defaults are written into the
stored object, as there, so that `kubectl get -o yaml` shows what is in force.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]


def apply_defaults(resource: str, obj: Object) -> None:
    """Fill in what a built-in kind leaves out."""
    if function := _DEFAULTS.get(resource):
        function(obj)


def _setdefaults(target: Object, **values: Any) -> None:
    for key, value in values.items():
        if target.get(key) is None:
            target[key] = value


def _section(obj: Object, key: str) -> Object:
    """obj[key], made when it is missing; kinds without a spec are refused later by validation."""
    return obj.setdefault(key, {})  # type: ignore[no-any-return]


def default_pod_spec(spec: Object) -> None:
    """A pod's spec, in a pod or in a template."""
    _setdefaults(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    if account := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for volume in spec.get("volumes") or []:
        _default_volume(volume)
    sections = ("initContainers", "containers", "ephemeralContainers")
    for container in [one for section in sections for one in spec.get(section) or []]:
        _default_container(container)


def _default_volume(volume: Object) -> None:
    if set(volume) <= {"name"}:
        volume["emptyDir"] = {}
    for kind in ("configMap", "secret", "projected", "downwardAPI"):
        if isinstance(volume.get(kind), dict):
            _setdefaults(volume[kind], defaultMode=0o644)
    if isinstance(volume.get("hostPath"), dict):
        _setdefaults(volume["hostPath"], type="")
    downward = list((volume.get("downwardAPI") or {}).get("items") or [])
    for source in (volume.get("projected") or {}).get("sources") or []:
        downward += (source.get("downwardAPI") or {}).get("items") or []
        if source.get("serviceAccountToken"):
            _setdefaults(source["serviceAccountToken"], expirationSeconds=3600)
    for item in downward:
        if item.get("fieldRef"):
            _setdefaults(item["fieldRef"], apiVersion="v1")


def _default_container(container: Object) -> None:
    image = str(container.get("image") or "")
    last = image.rsplit("/", 1)[-1]
    latest = "@" not in last and (":" not in last or last.endswith(":latest"))
    _setdefaults(
        container,
        imagePullPolicy="Always" if latest else "IfNotPresent",
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        resources={},
    )
    limits = container["resources"].get("limits")
    if limits:
        container["resources"]["requests"] = {**limits, **(container["resources"].get("requests") or {})}
    for port in container.get("ports") or []:
        _setdefaults(port, protocol="TCP")
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference:
            _setdefaults(reference, apiVersion="v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name):
            _default_probe(container[name])
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict) and hook.get("httpGet"):
            _setdefaults(hook["httpGet"], path="/", scheme="HTTP")


def _default_probe(probe: Object) -> None:
    _setdefaults(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    if probe.get("httpGet"):
        _setdefaults(probe["httpGet"], path="/", scheme="HTTP")
    if probe.get("grpc"):
        _setdefaults(probe["grpc"], service="")


def _default_template(spec: Object) -> None:
    template = _section(spec, "template")
    default_pod_spec(_section(template, "spec"))


def _pod(obj: Object) -> None:
    spec = _section(obj, "spec")
    default_pod_spec(spec)
    _setdefaults(spec, enableServiceLinks=True)
    # What the admission plug-ins ServiceAccount, Priority and DefaultTolerationSeconds add in a real cluster.
    _setdefaults(
        spec,
        serviceAccountName="default",
        serviceAccount="default",
        priority=0,
        preemptionPolicy="PreemptLowerPriority",
    )
    tolerations = spec.setdefault("tolerations", [])
    for taint in ("not-ready", "unreachable"):
        key = f"node.kubernetes.io/{taint}"
        if not any(t.get("key") in (key, None) and t.get("effect") in ("NoExecute", None) for t in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    _setdefaults(_section(obj, "status"), phase="Pending", qosClass=_quality(spec))


def _quality(spec: Object) -> str:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/"""
    resources = [
        c.get("resources") or {} for c in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    ]
    if not any(r.get("limits") or r.get("requests") for r in resources):
        return "BestEffort"
    guaranteed = all(
        {"cpu", "memory"} <= set(r.get("limits") or {}) and (r.get("requests") or r["limits"]) == r["limits"]
        for r in resources
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _deployment(obj: Object) -> None:
    spec = _section(obj, "spec")
    _setdefaults(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = _section(spec, "strategy")
    _setdefaults(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _setdefaults(_section(strategy, "rollingUpdate"), maxUnavailable="25%", maxSurge="25%")
    _default_template(spec)


def _replicaset(obj: Object) -> None:
    spec = _section(obj, "spec")
    _setdefaults(spec, replicas=1)
    if spec.get("template"):
        _default_template(spec)
    _setdefaults(_section(obj, "status"), replicas=0)


def _statefulset(obj: Object) -> None:
    spec = _section(obj, "spec")
    _setdefaults(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    strategy = _section(spec, "updateStrategy")
    _setdefaults(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _setdefaults(_section(strategy, "rollingUpdate"), partition=0)
    _default_template(spec)


def _daemonset(obj: Object) -> None:
    spec = _section(obj, "spec")
    _setdefaults(spec, revisionHistoryLimit=10)
    strategy = _section(spec, "updateStrategy")
    _setdefaults(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _setdefaults(_section(strategy, "rollingUpdate"), maxUnavailable=1, maxSurge=0)
    _default_template(spec)


def _job(obj: Object) -> None:
    _job_spec(_section(obj, "spec"))


def _job_spec(spec: Object) -> None:
    if spec.get("completions") is None and spec.get("parallelism") is None:
        _setdefaults(spec, completions=1)
    _setdefaults(
        spec,
        parallelism=1,
        backoffLimit=6,
        completionMode="NonIndexed",
        suspend=False,
        podReplacementPolicy="TerminatingOrFailed",
    )
    _default_template(spec)


def _cronjob(obj: Object) -> None:
    spec = _section(obj, "spec")
    _setdefaults(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    _default_template(_section(_section(spec, "jobTemplate"), "spec"))


def _service(obj: Object) -> None:
    spec = _section(obj, "spec")
    _setdefaults(spec, sessionAffinity="None", type="ClusterIP")
    if spec["sessionAffinity"] == "ClientIP":
        _setdefaults(_section(_section(spec, "sessionAffinityConfig"), "clientIP"), timeoutSeconds=10800)
    if spec["type"] != "ExternalName":
        _setdefaults(spec, internalTrafficPolicy="Cluster", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _setdefaults(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _setdefaults(spec, allocateLoadBalancerNodePorts=True)
    for port in spec.get("ports") or []:
        _setdefaults(port, protocol="TCP")
        if port.get("targetPort") in (None, 0, "") and "port" in port:
            port["targetPort"] = port["port"]
    _setdefaults(_section(obj, "status"), loadBalancer={})


def _endpoints(obj: Object) -> None:
    for subset in obj.get("subsets") or []:
        for port in subset.get("ports") or []:
            _setdefaults(port, protocol="TCP")


def _endpointslice(obj: Object) -> None:
    for port in obj.get("ports") or []:
        _setdefaults(port, name="", protocol="TCP")


def _secret(obj: Object) -> None:
    _setdefaults(obj, type="Opaque")
    for key, value in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()


def _namespace(obj: Object) -> None:
    name = obj.get("metadata", {}).get("name")
    if name:
        _section(obj["metadata"], "labels")["kubernetes.io/metadata.name"] = name
    _setdefaults(_section(obj, "status"), phase="Active")


def _webhooks(obj: Object) -> None:
    for hook in obj.get("webhooks") or []:
        _setdefaults(
            hook,
            failurePolicy="Fail",
            matchPolicy="Equivalent",
            timeoutSeconds=10,
            namespaceSelector={},
            objectSelector={},
        )
        if obj.get("kind") == "MutatingWebhookConfiguration":
            _setdefaults(hook, reinvocationPolicy="Never")
        for rule in hook.get("rules") or []:
            _setdefaults(rule, scope="*")
        service = (hook.get("clientConfig") or {}).get("service")
        if service:
            _setdefaults(service, port=443)


def _crd(obj: Object) -> None:
    spec = _section(obj, "spec")
    names = _section(spec, "names")
    if isinstance(names.get("kind"), str):
        _setdefaults(names, singular=names["kind"].lower(), listKind=f"{names['kind']}List")
    _setdefaults(spec, conversion={"strategy": "None"})


def _binding(obj: Object) -> None:
    for subject in obj.get("subjects") or []:
        group = "" if subject.get("kind") == "ServiceAccount" else "rbac.authorization.k8s.io"
        if group:
            _setdefaults(subject, apiGroup=group)
    if isinstance(obj.get("roleRef"), dict):
        _setdefaults(obj["roleRef"], apiGroup="rbac.authorization.k8s.io")


_DEFAULTS: dict[str, Callable[[Object], None]] = {
    "/pods": _pod,
    "/services": _service,
    "/endpoints": _endpoints,
    "/secrets": _secret,
    "/namespaces": _namespace,
    "apps/deployments": _deployment,
    "apps/replicasets": _replicaset,
    "/replicationcontrollers": _replicaset,
    "apps/statefulsets": _statefulset,
    "apps/daemonsets": _daemonset,
    "batch/jobs": _job,
    "batch/cronjobs": _cronjob,
    "discovery.k8s.io/endpointslices": _endpointslice,
    "admissionregistration.k8s.io/mutatingwebhookconfigurations": _webhooks,
    "admissionregistration.k8s.io/validatingwebhookconfigurations": _webhooks,
    "apiextensions.k8s.io/customresourcedefinitions": _crd,
    "rbac.authorization.k8s.io/rolebindings": _binding,
    "rbac.authorization.k8s.io/clusterrolebindings": _binding,
}
