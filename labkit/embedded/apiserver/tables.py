"""Objects as the rows that `kubectl get` prints: the columns people know, per kind. Pure, but for the clock.

https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
The columns are those of pkg/printers/internalversion; custom resources have their additionalPrinterColumns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from labkit.embedded.apiserver.resources import Kind

Object = dict[str, Any]
Cell = str | int | bool | float | None
Row = Callable[[Object], list[Cell]]

NAME = ("Name", "string", 0)
AGE = ("Age", "string", 0)


def age(timestamp: str | None, *, now: datetime | None = None) -> str:
    """`5d3h` and the like, as duration.HumanDuration prints it."""
    if not timestamp:
        return "<unknown>"
    try:
        then = datetime.fromisoformat(timestamp)
    except ValueError:
        return "<invalid>"
    return human_duration(int(((now or datetime.now(UTC)) - then).total_seconds()))


def human_duration(seconds: int) -> str:
    """Two units at most, coarser the longer it is (apimachinery/pkg/util/duration)."""
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    minutes, hours = seconds // 60, seconds // 3600
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    return f"{years}y{days % 365}d" if years < 8 and days % 365 else f"{years}y"


def _created(obj: Object) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _spec(obj: Object) -> Object:
    return obj.get("spec") or {}


def _status(obj: Object) -> Object:
    return obj.get("status") or {}


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _join(values: Iterable[Any]) -> str:
    return ",".join(str(value) for value in values) or "<none>"


def _labels(labels: Object | None) -> str:
    return _join(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def _selector(selector: Object | None) -> str:
    parts = [f"{key}={value}" for key, value in sorted(((selector or {}).get("matchLabels") or {}).items())]
    for expression in (selector or {}).get("matchExpressions") or []:
        key, operator = expression["key"], expression["operator"]
        values = ",".join(expression.get("values") or [])
        forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        parts.append(forms.get(operator, f"!{key}"))
    return ",".join(parts) or "<none>"


def _containers(spec: Object) -> list[Object]:
    return (spec.get("template") or {}).get("spec", {}).get("containers") or []


def _container_cells(obj: Object) -> list[Cell]:
    containers = _containers(_spec(obj))
    return [_join(c.get("name") for c in containers), _join(c.get("image") for c in containers)]


# Pods.


def pod_status(pod: Object) -> tuple[str, int, int, int, str]:
    """STATUS, ready containers, containers, restarts, time of the last restart (printPod in Kubernetes)."""
    status, spec = _status(pod), _spec(pod)
    reason = status.get("reason") or status.get("phase") or "Unknown"
    inits = {c["name"]: c for c in spec.get("initContainers") or []}
    total, ready, restarts, last = len(spec.get("containers") or []), 0, 0, ""
    sidecars = [name for name, c in inits.items() if c.get("restartPolicy") == "Always"]
    total += len(sidecars)
    initializing = False
    for i, container in enumerate(status.get("initContainerStatuses") or []):
        state, is_sidecar = container.get("state") or {}, container.get("name") in sidecars
        restarts += container.get("restartCount", 0)
        ready += bool(is_sidecar and container.get("ready"))
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if initializing or (terminated and not terminated.get("exitCode")) or (is_sidecar and container.get("started")):
            continue
        initializing = True
        reason = _init_reason(terminated, waiting) or f"Init:{i}/{len(inits)}"
    if not initializing or _condition(pod, "Initialized") == "True":
        reason, app_ready, app_restarts, last = _app_status(pod, reason)
        ready += app_ready
        restarts = app_restarts + sum(
            c.get("restartCount", 0) for c in status.get("initContainerStatuses") or [] if c.get("name") in sidecars
        )
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Failed", "Succeeded"):
            reason = "Terminating"
    return reason, ready, total, restarts, last


def _init_reason(terminated: Object | None, waiting: Object | None) -> str:
    if terminated:
        if terminated.get("reason"):
            return f"Init:{terminated['reason']}"
        signal = terminated.get("signal")
        return f"Init:Signal:{signal}" if signal else f"Init:ExitCode:{terminated.get('exitCode')}"
    if waiting and waiting.get("reason") and waiting["reason"] != "PodInitializing":
        return f"Init:{waiting['reason']}"
    return ""


def _app_status(pod: Object, reason: str) -> tuple[str, int, int, str]:
    ready, restarts, last, running = 0, 0, "", False
    for container in reversed(_status(pod).get("containerStatuses") or []):
        state = container.get("state") or {}
        restarts += container.get("restartCount", 0)
        ended = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        last = max(last, ended)
        waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated:
            signal, code = terminated.get("signal"), terminated.get("exitCode")
            reason = terminated.get("reason") or (f"Signal:{signal}" if signal else f"ExitCode:{code}")
        elif container.get("ready") and state.get("running") is not None:
            running = True
            ready += 1
    if reason == "Completed" and running:
        reason = "Running" if _condition(pod, "Ready") == "True" else "NotReady"
    return reason, ready, restarts, last


def _condition(obj: Object, kind: str) -> str:
    return next((c.get("status", "") for c in _status(obj).get("conditions") or [] if c.get("type") == kind), "")


def _pod_row(pod: Object) -> list[Cell]:
    reason, ready, total, restarts, last = pod_status(pod)
    shown = f"{restarts} ({age(last)} ago)" if restarts and last else str(restarts)
    status = _status(pod)
    gates = _spec(pod).get("readinessGates") or []
    met = sum(_condition(pod, gate.get("conditionType", "")) == "True" for gate in gates)
    return [
        _name(pod),
        f"{ready}/{total}",
        reason,
        shown,
        _created(pod),
        status.get("podIP") or "<none>",
        _spec(pod).get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        f"{met}/{len(gates)}" if gates else "<none>",
    ]


# Everything else.


def _service_row(service: Object) -> list[Cell]:
    spec = _spec(service)
    ports = ",".join(
        f"{p['port']}:{p['nodePort']}/{p['protocol']}"
        if p.get("nodePort")
        else f"{p['port']}/{p.get('protocol', 'TCP')}"
        for p in spec.get("ports") or []
    )
    return [
        _name(service),
        spec.get("type", "ClusterIP"),
        spec.get("clusterIP") or "<none>",
        _external_ip(service),
        ports or "<none>",
        _created(service),
        _labels(spec.get("selector")),
    ]


def _external_ip(service: Object) -> str:
    spec = _spec(service)
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName") or "<none>")
    addresses = list(spec.get("externalIPs") or [])
    if spec.get("type") == "LoadBalancer":
        ingress = (_status(service).get("loadBalancer") or {}).get("ingress") or []
        addresses = [i.get("ip") or i.get("hostname") for i in ingress] + addresses
        return ",".join(map(str, addresses)) or "<pending>"
    return _join(addresses)


def _deployment_row(obj: Object) -> list[Cell]:
    spec, status = _spec(obj), _status(obj)
    return [
        _name(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _created(obj),
        *_container_cells(obj),
        _selector(spec.get("selector")),
    ]


def _replicaset_row(obj: Object) -> list[Cell]:
    spec, status = _spec(obj), _status(obj)
    numbers: list[Cell] = [spec.get("replicas", 1), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [_name(obj), *numbers, _created(obj), *_container_cells(obj), _selector(spec.get("selector"))]


def _statefulset_row(obj: Object) -> list[Cell]:
    ready = f"{_status(obj).get('readyReplicas', 0)}/{_spec(obj).get('replicas', 1)}"
    return [_name(obj), ready, _created(obj), *_container_cells(obj)]


def _daemonset_row(obj: Object) -> list[Cell]:
    status = _status(obj)
    keys = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    nodes = _labels(((_spec(obj).get("template") or {}).get("spec") or {}).get("nodeSelector"))
    selector = _selector(_spec(obj).get("selector"))
    return [_name(obj), *(status.get(k, 0) for k in keys), nodes, _created(obj), *_container_cells(obj), selector]


def _job_row(obj: Object) -> list[Cell]:
    spec, status = _spec(obj), _status(obj)
    completed = status.get("succeeded", 0)
    phase = (
        "Complete" if _condition(obj, "Complete") == "True" else "Failed" if _condition(obj, "Failed") == "True" else ""
    )
    if not phase:
        phase = (
            "Suspended"
            if spec.get("suspend")
            else "Terminating"
            if obj["metadata"].get("deletionTimestamp")
            else "Running"
        )
    duration = ""
    if start := status.get("startTime"):
        end = status.get("completionTime")
        duration = age(start, now=datetime.fromisoformat(end) if end else None)
    wanted = spec.get("completions") or spec.get("parallelism") or 1
    cells = [_name(obj), phase, f"{completed}/{wanted}", duration, _created(obj)]
    return [*cells, *_container_cells(obj), _selector(spec.get("selector"))]


def _cronjob_row(obj: Object) -> list[Cell]:
    spec, status = _spec(obj), _status(obj)
    last = age(status["lastScheduleTime"]) if status.get("lastScheduleTime") else "<none>"
    active = len(status.get("active") or [])
    zone = spec.get("timeZone") or "<none>"
    return [_name(obj), spec.get("schedule"), zone, str(bool(spec.get("suspend"))), active, last, _created(obj)]


def _node_row(obj: Object) -> list[Cell]:
    status, info = _status(obj), _status(obj).get("nodeInfo") or {}
    ready = {"True": "Ready", "False": "NotReady"}.get(_condition(obj, "Ready"), "Unknown")
    if _spec(obj).get("unschedulable"):
        ready += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = [k.removeprefix(prefix) for k in obj["metadata"].get("labels") or {} if k.startswith(prefix)]
    addresses = {a.get("type"): a.get("address") for a in status.get("addresses") or []}
    return [
        _name(obj),
        ready,
        _join(sorted(roles)),
        _created(obj),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", "<none>"),
        addresses.get("ExternalIP", "<none>"),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _event_row(obj: Object) -> list[Cell]:
    about = obj.get("involvedObject") or {}
    last = obj.get("lastTimestamp") or obj.get("eventTime") or obj["metadata"].get("creationTimestamp")
    first = obj.get("firstTimestamp") or obj.get("eventTime") or last
    source = (obj.get("source") or {}).get("component") or obj.get("reportingComponent") or ""
    return [
        age(last),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        about.get("fieldPath", ""),
        source,
        str(obj.get("message", "")).strip(),
        age(first),
        obj.get("count") or 1,
        _name(obj),
    ]


def _endpoints_row(obj: Object) -> list[Cell]:
    found = []
    for subset in obj.get("subsets") or []:
        for address in subset.get("addresses") or []:
            ports = subset.get("ports") or []
            found += [f"{address.get('ip')}:{port.get('port')}" for port in ports] or [str(address.get("ip"))]
    shown = ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "")
    return [_name(obj), shown or "<none>", _created(obj)]


def _endpointslice_row(obj: Object) -> list[Cell]:
    ports = [str(port.get("port", "*")) for port in obj.get("ports") or []]
    addresses = [a for endpoint in obj.get("endpoints") or [] for a in endpoint.get("addresses") or []]

    def few(words: list[str]) -> str:
        return ",".join(words[:3]) + (f" + {len(words) - 3} more..." if len(words) > 3 else "") or "<unset>"

    return [_name(obj), obj.get("addressType", ""), few(ports), few(addresses), _created(obj)]


def _secret_row(obj: Object) -> list[Cell]:
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or {}), _created(obj)]


def _configmap_row(obj: Object) -> list[Cell]:
    return [_name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), _created(obj)]


def _namespace_row(obj: Object) -> list[Cell]:
    return [_name(obj), _status(obj).get("phase", ""), _created(obj)]


def _account_row(obj: Object) -> list[Cell]:
    return [_name(obj), len(obj.get("secrets") or []), _created(obj)]


def _crd_row(obj: Object) -> list[Cell]:
    return [_name(obj), obj["metadata"].get("creationTimestamp")]


def _webhook_row(obj: Object) -> list[Cell]:
    return [_name(obj), len(obj.get("webhooks") or []), _created(obj)]


def _role_row(obj: Object) -> list[Cell]:
    return [_name(obj), obj["metadata"].get("creationTimestamp")]


def _binding_row(obj: Object) -> list[Cell]:
    role = obj.get("roleRef") or {}
    subjects = obj.get("subjects") or []
    kinds = {"User": [], "Group": [], "ServiceAccount": []}  # type: dict[str, list[str]]
    for subject in subjects:
        name = subject.get("name", "")
        shown = f"{subject.get('namespace', '')}/{name}" if subject.get("kind") == "ServiceAccount" else name
        kinds.setdefault(subject.get("kind", ""), []).append(shown)
    words = [", ".join(kinds[kind]) for kind in ("User", "Group", "ServiceAccount")]
    return [_name(obj), f"{role.get('kind', '')}/{role.get('name', '')}", _created(obj), *words]


def _lease_row(obj: Object) -> list[Cell]:
    return [_name(obj), _spec(obj).get("holderIdentity", ""), _created(obj)]


def _ingress_row(obj: Object) -> list[Cell]:
    spec = _spec(obj)
    hosts = _join(rule.get("host") or "*" for rule in spec.get("rules") or [])
    ingress = (_status(obj).get("loadBalancer") or {}).get("ingress") or []
    addresses = ",".join(str(i.get("ip") or i.get("hostname")) for i in ingress)
    ports = "80, 443" if spec.get("tls") else "80"
    return [_name(obj), spec.get("ingressClassName") or "<none>", hosts, addresses, ports, _created(obj)]


def _netpol_row(obj: Object) -> list[Cell]:
    return [_name(obj), _selector(_spec(obj).get("podSelector")), _created(obj)]


def _pdb_row(obj: Object) -> list[Cell]:
    spec = _spec(obj)
    least, most = spec.get("minAvailable", "N/A"), spec.get("maxUnavailable", "N/A")
    return [_name(obj), str(least), str(most), _status(obj).get("disruptionsAllowed", 0), _created(obj)]


def _plain_row(obj: Object) -> list[Cell]:
    return [_name(obj), _created(obj)]


def _columns(*names: str) -> list[tuple[str, str, int]]:
    """`Name`, `Status`, `+IP` ...: a plus marks what only `-o wide` shows, a hash a number."""
    result = []
    for name in names:
        priority = 1 if name.startswith("+") else 0
        name = name.removeprefix("+")
        result.append((name.removeprefix("#"), "integer" if name.startswith("#") else "string", priority))
    return result


_WORKLOAD = ("+Containers", "+Images")
_RBAC = ("Name", "Created At")
_BUILTIN: dict[str, tuple[list[tuple[str, str, int]], Row]] = {
    "/pods": (
        _columns("Name", "Ready", "Status", "Restarts", "Age", "+IP", "+Node", "+Nominated Node", "+Readiness Gates"),
        _pod_row,
    ),
    "/services": (
        _columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "+Selector"),
        _service_row,
    ),
    "/nodes": (
        _columns(
            "Name",
            "Status",
            "Roles",
            "Age",
            "Version",
            "+Internal-IP",
            "+External-IP",
            "+OS-Image",
            "+Kernel-Version",
            "+Container-Runtime",
        ),
        _node_row,
    ),
    "/events": (
        _columns(
            "Last Seen",
            "Type",
            "Reason",
            "Object",
            "+Subobject",
            "+Source",
            "Message",
            "+First Seen",
            "+#Count",
            "+Name",
        ),
        _event_row,
    ),
    "/namespaces": (_columns("Name", "Status", "Age"), _namespace_row),
    "/endpoints": (_columns("Name", "Endpoints", "Age"), _endpoints_row),
    "/secrets": (_columns("Name", "Type", "#Data", "Age"), _secret_row),
    "/configmaps": (_columns("Name", "#Data", "Age"), _configmap_row),
    "/serviceaccounts": (_columns("Name", "#Secrets", "Age"), _account_row),
    "/replicationcontrollers": (
        _columns("Name", "#Desired", "#Current", "#Ready", "Age", *_WORKLOAD, "+Selector"),
        _replicaset_row,
    ),
    "apps/deployments": (
        _columns("Name", "Ready", "#Up-to-date", "#Available", "Age", *_WORKLOAD, "+Selector"),
        _deployment_row,
    ),
    "apps/replicasets": (
        _columns("Name", "#Desired", "#Current", "#Ready", "Age", *_WORKLOAD, "+Selector"),
        _replicaset_row,
    ),
    "apps/statefulsets": (_columns("Name", "Ready", "Age", *_WORKLOAD), _statefulset_row),
    "apps/daemonsets": (
        _columns(
            "Name",
            "#Desired",
            "#Current",
            "#Ready",
            "#Up-to-date",
            "#Available",
            "Node Selector",
            "Age",
            *_WORKLOAD,
            "+Selector",
        ),
        _daemonset_row,
    ),
    "batch/jobs": (
        _columns("Name", "Status", "Completions", "Duration", "Age", *_WORKLOAD, "+Selector"),
        _job_row,
    ),
    "batch/cronjobs": (
        _columns("Name", "Schedule", "Timezone", "Suspend", "#Active", "Last Schedule", "Age"),
        _cronjob_row,
    ),
    "discovery.k8s.io/endpointslices": (
        _columns("Name", "AddressType", "Ports", "Endpoints", "Age"),
        _endpointslice_row,
    ),
    "coordination.k8s.io/leases": (_columns("Name", "Holder", "Age"), _lease_row),
    "networking.k8s.io/ingresses": (_columns("Name", "Class", "Hosts", "Address", "Ports", "Age"), _ingress_row),
    "networking.k8s.io/networkpolicies": (_columns("Name", "Pod-Selector", "Age"), _netpol_row),
    "policy/poddisruptionbudgets": (
        _columns("Name", "Min Available", "Max Unavailable", "#Allowed Disruptions", "Age"),
        _pdb_row,
    ),
    "apiextensions.k8s.io/customresourcedefinitions": (_columns(*_RBAC), _crd_row),
    "admissionregistration.k8s.io/mutatingwebhookconfigurations": (_columns("Name", "#Webhooks", "Age"), _webhook_row),
    "admissionregistration.k8s.io/validatingwebhookconfigurations": (
        _columns("Name", "#Webhooks", "Age"),
        _webhook_row,
    ),
    "rbac.authorization.k8s.io/roles": (_columns(*_RBAC), _role_row),
    "rbac.authorization.k8s.io/clusterroles": (_columns(*_RBAC), _role_row),
    "rbac.authorization.k8s.io/rolebindings": (
        _columns("Name", "Role", "Age", "+Users", "+Groups", "+ServiceAccounts"),
        _binding_row,
    ),
    "rbac.authorization.k8s.io/clusterrolebindings": (
        _columns("Name", "Role", "Age", "+Users", "+Groups", "+ServiceAccounts"),
        _binding_row,
    ),
}


def _custom(columns: tuple[Object, ...]) -> tuple[list[Object], Row]:
    definitions = [_definition("Name", "string", 0)]
    for column in columns:
        definition = _definition(column["name"], column["type"], column.get("priority", 0))
        definition |= {"description": column.get("description", ""), "format": column.get("format", "")}
        definitions.append(definition)
    # Kubernetes shows the age of a custom resource only when it has no columns of its own.
    return definitions, lambda obj: [_name(obj), *(_custom_cell(obj, column) for column in columns)]


def _custom_cell(obj: Object, column: Object) -> Cell:
    found = json_path(obj, column.get("jsonPath", ""))
    if not found or found[0] is None:
        return None if column["type"] != "date" else "<unknown>"
    value = found[0]
    if column["type"] == "date":
        return age(value) if isinstance(value, str) else "<invalid>"
    if column["type"] in ("integer", "number", "boolean"):
        return value if isinstance(value, int | float | bool) else None
    return value if isinstance(value, str) else json.dumps(found if len(found) > 1 else value, separators=(",", ":"))


_STEP = re.compile(
    r"""\.([A-Za-z0-9_/\x00-]+)|\['([^']+)'\]|\["([^"]+)"\]|\[(-?\d+)\]|\[(\*)\]|\[\?\(@\.([\w.]+)\s*==\s*['"]([^'"]*)['"]\)\]"""
)


def json_path(obj: Any, path: str) -> list[Any]:
    """What a simple JSONPath finds: names, indexes, `[*]`, and `[?(@.type=="Ready")]`."""
    found, position = [obj], 0
    path = path.replace("\\.", "\x00")
    while position < len(path):
        match = _STEP.match(path, position)
        if not match:
            return []
        position = match.end()
        found = [item for value in found for item in _step(value, match)]
    return found


def _step(value: Any, match: re.Match[str]) -> list[Any]:
    name = match[1] or match[2] or match[3]
    if name is not None:
        name = name.replace("\x00", ".")
        return [value[name]] if isinstance(value, dict) and name in value else []
    if match[6] is not None:
        items = value if isinstance(value, list) else []
        return [item for item in items if (json_path(item, f".{match[6]}") or [None])[0] == match[7]]
    if not isinstance(value, list):
        return list(value.values()) if match[5] and isinstance(value, dict) else []
    if match[5]:
        return list(value)
    index = int(match[4])
    return [value[index]] if -len(value) <= index < len(value) else []


def _definition(name: str, kind: str, priority: int) -> Object:
    form = "name" if name == "Name" else ""
    return {"name": name, "type": kind, "format": form, "description": "", "priority": priority}


def layout(kind: Kind) -> tuple[list[Object], Row]:
    """The column definitions of a kind, and the function that makes a row's cells."""
    if kind.custom:
        if kind.printer_columns:
            return _custom(kind.printer_columns)
        return [_definition(*column) for column in (NAME, AGE)], _plain_row
    columns, row = _BUILTIN.get(kind.resource, ([NAME, AGE], _plain_row))
    return [_definition(*column) for column in columns], row


def table_row(row: Row, obj: Object, include: str) -> Object:
    """One row; `include` is the client's `includeObject`: None, Metadata or Object."""
    try:
        cells = row(obj)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        # A sparse or odd object must not hide the others of its list: show its name.
        cells = [_name(obj)]
    if include == "None":
        return {"cells": cells}
    return {"cells": cells, "object": obj if include == "Object" else metadata_only(obj)}


def metadata_only(obj: Object) -> Object:
    """A PartialObjectMetadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def make_table(columns: list[Object], rows: list[Object], metadata: Object) -> Object:
    """A Table object."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    }
