"""Whether an object means something: names, labels, selectors, ports. Pure.

The checks of pkg/apis/*/validation in Kubernetes that people run into; messages are theirs. Shape and unknown fields
are checked before, in `decoding.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from labkit.embedded.apiserver import ephemeral
from labkit.embedded.apiserver.failures import (
    Cause,
    duplicate,
    forbidden_field,
    invalid,
    invalid_object,
    not_supported,
    required,
)
from labkit.embedded.apiserver.resources import PODS, Kind
from labkit.embedded.apiserver.selectors import selector_test

Object = dict[str, Any]

_LABEL_1123 = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL_1123}(\.{_LABEL_1123})*"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = rf"({_QUALIFIED})?"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"

_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    rf"'{_LABEL_1123}(\.{_LABEL_1123})*')"
)
_LABEL_1123_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL_1123}')"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    f"character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
    f"validation is '{_LABEL_1035}')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_ANNOTATIONS_LIMIT = 256 * 1024

# How an object of a kind may be called; all others have a subdomain's name.
_NAME_RULES: dict[str, tuple[str, int, str]] = {
    "/namespaces": (_LABEL_1123, 63, _LABEL_1123_TEXT),
    "/services": (_LABEL_1035, 63, _LABEL_1035_TEXT),
}
_FREE_NAMES = frozenset(
    f"rbac.authorization.k8s.io/{plural}" for plural in ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
)


def validate(kind: Kind, obj: Object, old: Object | None) -> list[Cause]:
    """All that is wrong with an object; empty when it may be stored."""
    causes = _metadata(kind, obj.get("metadata") or {})
    if kind.resource == PODS and old is None and (obj.get("spec") or {}).get("ephemeralContainers"):
        causes.append(forbidden_field(ephemeral.PATH, "cannot be set on create"))
    if check := _KINDS.get(kind.resource):
        causes += check(obj)
    return causes


def _metadata(kind: Kind, metadata: Object) -> list[Cause]:
    name = metadata.get("name") or ""
    if not name:
        return [required("metadata.name", "name or generateName is required")]
    causes = _name(kind, name)
    for key, value in (metadata.get("labels") or {}).items():
        causes += _qualified("metadata.labels", key) + label_value("metadata.labels", value)
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        causes += _qualified("metadata.annotations", key.lower())
    if sum(len(k) + len(v) for k, v in annotations.items()) > _ANNOTATIONS_LIMIT:
        text = f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes"
        causes.append(Cause("metadata.annotations", "FieldValueTooLong", text))
    for i, owner in enumerate(metadata.get("ownerReferences") or []):
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                causes.append(invalid(f"metadata.ownerReferences[{i}].{key}", "", f"{key} must not be empty"))
    for finalizer in metadata.get("finalizers") or []:
        causes += _qualified("metadata.finalizers", finalizer)
    return causes


def _name(kind: Kind, name: str) -> list[Cause]:
    if kind.resource in _FREE_NAMES:
        bad = name in (".", "..") or "/" in name or "%" in name
        return [invalid("metadata.name", name, "may not contain '/' or '%'")] if bad else []
    pattern, limit, text = _NAME_RULES.get(kind.resource, (_SUBDOMAIN, 253, _SUBDOMAIN_TEXT))
    if len(name) > limit:
        return [invalid("metadata.name", name, f"must be no more than {limit} characters")]
    return [] if re.fullmatch(pattern, name) else [invalid("metadata.name", name, text)]


def _qualified(field: str, key: str) -> list[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not re.fullmatch(_SUBDOMAIN, prefix)):
        return [invalid(field, key, f"prefix part {_SUBDOMAIN_TEXT}")]
    if not name:
        return [invalid(field, key, "name part must be non-empty")]
    if len(name) > 63:
        return [invalid(field, key, "name part must be no more than 63 bytes")]
    return [] if re.fullmatch(_QUALIFIED, name) else [invalid(field, key, _QUALIFIED_TEXT)]


def label_value(field: str, value: str) -> list[Cause]:
    """What is wrong with the value of a label."""
    if len(value) > 63:
        return [invalid(field, value, "must be no more than 63 bytes")]
    return [] if re.fullmatch(_LABEL_VALUE, value) else [invalid(field, value, _LABEL_VALUE_TEXT)]


def _dns_label(field: str, value: Any) -> list[Cause]:
    if not value:
        return [required(field)]
    if len(value) > 63:
        return [invalid(field, value, "must be no more than 63 characters")]
    return [] if re.fullmatch(_LABEL_1123, value) else [invalid(field, value, _LABEL_1123_TEXT)]


def _port(field: str, value: Any) -> list[Cause]:
    if value is None or value == 0:
        return [required(field)] if value is None else [invalid(field, value, "must be between 1 and 65535, inclusive")]
    if isinstance(value, int) and not 1 <= value <= 65535:
        return [invalid(field, value, "must be between 1 and 65535, inclusive")]
    return []


def _port_name(field: str, value: str) -> list[Cause]:
    if len(value) > 15:
        return [invalid(field, value, "must be no more than 15 characters")]
    if not re.fullmatch(r"[-a-z0-9]+", value):
        return [invalid(field, value, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")]
    if not re.search("[a-z]", value):
        return [invalid(field, value, "must contain at least one letter (a-z)")]
    if "--" in value or value[0] == "-" or value[-1] == "-":
        return [invalid(field, value, "must not contain consecutive hyphens, begin or end with a hyphen")]
    return []


def _port_or_name(field: str, value: Any) -> list[Cause]:
    return _port_name(field, value) if isinstance(value, str) else _port(field, value)


def _one_of(field: str, value: Any, allowed: tuple[str, ...]) -> list[Cause]:
    return [] if value in (None, *allowed) else [not_supported(field, value, allowed)]


# Without these a volume leads nowhere.
_VOLUME_NEEDS = {
    "secret": "secretName",
    "configMap": "name",
    "hostPath": "path",
    "persistentVolumeClaim": "claimName",
}
_PROTOCOLS = ("SCTP", "TCP", "UDP")


def _pod_spec(spec: Object, path: str, restart: tuple[str, ...] = ("Always", "OnFailure", "Never")) -> list[Cause]:
    causes: list[Cause] = []
    volumes: set[str] = set()
    for i, volume in enumerate(spec.get("volumes") or []):
        where = f"{path}.volumes[{i}]"
        causes += _dns_label(f"{where}.name", volume.get("name"))
        if volume.get("name") in volumes:
            causes.append(duplicate(f"{where}.name", volume.get("name")))
        volumes.add(volume.get("name") or "")
        if len(volume.keys() - {"name"}) > 1:
            causes.append(forbidden_field(where, "may not specify more than 1 volume type"))
        for kind, field in _VOLUME_NEEDS.items():
            if isinstance(volume.get(kind), dict) and not volume[kind].get(field):
                causes.append(required(f"{where}.{kind}.{field}"))
    if not spec.get("containers"):
        causes.append(required(f"{path}.containers"))
    names: set[str] = set()
    for section in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(section) or []):
            causes += _container(container, f"{path}.{section}[{i}]", names, volumes)
    if path != "spec" and spec.get("ephemeralContainers"):
        text = "ephemeral containers not allowed in pod template"
        causes.append(forbidden_field(f"{path}.ephemeralContainers", text))
    causes += _one_of(f"{path}.restartPolicy", spec.get("restartPolicy"), restart)
    causes += _one_of(
        f"{path}.dnsPolicy", spec.get("dnsPolicy"), ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
    )
    grace = spec.get("terminationGracePeriodSeconds")
    if isinstance(grace, int) and grace < 0:
        causes.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0"))
    return causes


def _container(container: Object, path: str, names: set[str], volumes: set[str]) -> list[Cause]:
    name = container.get("name")
    causes = _dns_label(f"{path}.name", name)
    if name in names:
        causes.append(duplicate(f"{path}.name", name))
    names.add(name or "")
    image = container.get("image")
    if not image:
        causes.append(required(f"{path}.image"))
    elif image != image.strip():
        causes.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    causes += _one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), ("Always", "IfNotPresent", "Never"))
    port_names: set[str] = set()
    for i, port in enumerate(container.get("ports") or []):
        where = f"{path}.ports[{i}]"
        causes += _port(f"{where}.containerPort", port.get("containerPort"))
        causes += _one_of(f"{where}.protocol", port.get("protocol"), _PROTOCOLS)
        if port.get("name"):
            causes += _port_name(f"{where}.name", port["name"])
            if port["name"] in port_names:
                causes.append(duplicate(f"{where}.name", port["name"]))
            port_names.add(port["name"])
    for i, variable in enumerate(container.get("env") or []):
        where = f"{path}.env[{i}]"
        if not variable.get("name"):
            causes.append(required(f"{where}.name"))
        if variable.get("value") and variable.get("valueFrom"):
            causes.append(invalid(f"{where}.valueFrom", "", "may not be specified when `value` is not empty"))
    for i, mount in enumerate(container.get("volumeMounts") or []):
        where = f"{path}.volumeMounts[{i}]"
        if not mount.get("name"):
            causes.append(required(f"{where}.name"))
        elif mount["name"] not in volumes:
            causes.append(Cause(f"{where}.name", "FieldValueNotFound", f'Not found: "{mount["name"]}"'))
        if not mount.get("mountPath"):
            causes.append(required(f"{where}.mountPath"))
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(probe):
            causes += _probe(container[probe], f"{path}.{probe}", only_one_success=probe != "readinessProbe")
    return causes


def _probe(probe: Object, path: str, *, only_one_success: bool) -> list[Cause]:
    causes: list[Cause] = []
    handlers = [name for name in ("exec", "httpGet", "tcpSocket", "grpc") if probe.get(name) is not None]
    if not handlers:
        causes.append(required(path, "must specify a handler type"))
    for name in handlers[1:]:
        causes.append(forbidden_field(f"{path}.{name}", "may not specify more than 1 handler type"))
    for name in ("httpGet", "tcpSocket"):
        if probe.get(name) is not None:
            causes += _port_or_name(f"{path}.{name}.port", probe[name].get("port"))
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if isinstance(probe.get(name), int) and probe[name] < 0:
            causes.append(invalid(f"{path}.{name}", probe[name], "must be greater than or equal to 0"))
    if only_one_success and probe.get("successThreshold") not in (None, 1):
        causes.append(invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    return causes


def _pod(obj: Object) -> list[Cause]:
    spec = obj.get("spec") or {}
    return _pod_spec(spec, "spec") + ephemeral.special_rules(spec)


def _workload(obj: Object) -> list[Cause]:
    """Deployments, ReplicaSets, StatefulSets, DaemonSets: replicas, selector, template."""
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    replicas = spec.get("replicas")
    if isinstance(replicas, int) and replicas < 0:
        causes.append(invalid("spec.replicas", replicas, "must be greater than or equal to 0"))
    selector = spec.get("selector")
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not selector:
        causes.append(required("spec.selector"))
    elif not (selector.get("matchLabels") or selector.get("matchExpressions")):
        causes.append(invalid("spec.selector", selector, "empty selector is invalid for deployment"))
    else:
        causes += _selector("spec.selector", selector)
        if not causes and not selector_test(selector)(labels):
            causes.append(
                invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
            )
    for key, value in labels.items():
        causes += _qualified("spec.template.metadata.labels", key)
        causes += label_value("spec.template.metadata.labels", value)
    return causes + _pod_spec(template.get("spec") or {}, "spec.template.spec", ("Always",))


def _selector(path: str, selector: Object) -> list[Cause]:
    causes: list[Cause] = []
    for key, value in (selector.get("matchLabels") or {}).items():
        causes += _qualified(f"{path}.matchLabels", key) + label_value(f"{path}.matchLabels", value)
    for i, expression in enumerate(selector.get("matchExpressions") or []):
        where, operator = f"{path}.matchExpressions[{i}]", expression.get("operator")
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            causes.append(invalid(f"{where}.operator", operator, "not a valid selector operator"))
        elif operator in ("In", "NotIn") and not expression.get("values"):
            causes.append(required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist") and expression.get("values"):
            causes.append(
                forbidden_field(f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
            )
    return causes


def _replication_controller(obj: Object) -> list[Cause]:
    spec = obj.get("spec") or {}
    template = spec.get("template") or {}
    causes = [] if spec.get("selector") else [required("spec.selector")]
    return causes + _pod_spec(template.get("spec") or {}, "spec.template.spec", ("Always",))


def _job(obj: Object) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    for name in ("parallelism", "completions", "backoffLimit"):
        if isinstance(spec.get(name), int) and spec[name] < 0:
            causes.append(invalid(f"spec.{name}", spec[name], "must be greater than or equal to 0"))
    template = (spec.get("template") or {}).get("spec") or {}
    if template.get("restartPolicy") == "Always":
        words = ("OnFailure", "Never")
        where = "spec.template.spec.restartPolicy"
        return [*causes, required(where, f"valid values: {', '.join(json_words(words))}")]
    return causes + _pod_spec(template, "spec.template.spec", ("OnFailure", "Never"))


def json_words(words: tuple[str, ...]) -> list[str]:
    """The words in double quotes."""
    return [f'"{word}"' for word in words]


def _service(obj: Object) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _one_of("spec.type", spec.get("type"), ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
    causes += _one_of("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    ports = spec.get("ports") or []
    headless = spec.get("clusterIP") == "None"
    if not ports and not headless and spec.get("type") != "ExternalName":
        causes.append(required("spec.ports"))
    if spec.get("type") == "ExternalName" and not spec.get("externalName"):
        causes.append(required("spec.externalName"))
    names: set[str] = set()
    numbers: set[tuple[Any, Any]] = set()
    for i, port in enumerate(ports):
        where = f"spec.ports[{i}]"
        if len(ports) > 1 and not port.get("name"):
            causes.append(required(f"{where}.name"))
        if port.get("name"):
            causes += _dns_label(f"{where}.name", port["name"])
            if port["name"] in names:
                causes.append(duplicate(f"{where}.name", port["name"]))
            names.add(port["name"])
        causes += _port(f"{where}.port", port.get("port"))
        if port.get("targetPort") is not None:
            causes += _port_or_name(f"{where}.targetPort", port["targetPort"])
        causes += _one_of(f"{where}.protocol", port.get("protocol"), _PROTOCOLS)
        key = (port.get("port"), port.get("protocol"))
        if key in numbers:
            causes.append(duplicate(where, {"port": key[0], "protocol": key[1]}))
        numbers.add(key)
    for key, value in (spec.get("selector") or {}).items():
        causes += _qualified("spec.selector", key) + label_value("spec.selector", value)
    return causes


def _config_key(key: str) -> list[str]:
    """What is wrong with a key of a ConfigMap or a Secret, which becomes the name of a file."""
    if len(key) > 253:
        return ["must be no more than 253 characters"]
    if not re.fullmatch(_CONFIG_KEY, key):
        return [
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
            f"'KEY_NAME',  or 'key-name', regex used for validation is '{_CONFIG_KEY}')"
        ]
    if key in (".", ".."):
        return [f"must not be '{key}'"]
    return ["must not start with '..'"] if key.startswith("..") else []


def _data_keys(obj: Object) -> list[Cause]:
    causes: list[Cause] = []
    total = 0
    for section in ("data", "binaryData"):
        for key, value in (obj.get(section) or {}).items():
            total += len(value)
            causes += [invalid(f"{section}[{key}]", key, why) for why in _config_key(key)]
            if section == "binaryData" and key in (obj.get("data") or {}):
                causes.append(invalid(f"{section}[{key}]", key, "duplicate of key present in data"))
    if total > 1024 * 1024:
        causes.append(Cause("", "FieldValueTooLong", "Too long: may not be more than 1048576 bytes"))
    return causes


def _webhooks(obj: Object) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for i, hook in enumerate(obj.get("webhooks") or []):
        where, name = f"webhooks[{i}]", hook.get("name") or ""
        if len(name.split(".")) < 3 or not re.fullmatch(_SUBDOMAIN, name):
            causes.append(
                invalid(f"{where}.name", name, "should be a domain with at least three segments separated by dots")
            )
        if name in names:
            causes.append(duplicate(f"{where}.name", name))
        names.add(name)
        config = hook.get("clientConfig") or {}
        if bool(config.get("url")) == bool(config.get("service")):
            causes.append(required(f"{where}.clientConfig", "exactly one of url or service is required"))
        if not hook.get("sideEffects"):
            causes.append(required(f"{where}.sideEffects", "must specify one of None, NoneOnDryRun"))
        else:
            causes += _one_of(f"{where}.sideEffects", hook["sideEffects"], ("None", "NoneOnDryRun"))
        if "v1" not in (hook.get("admissionReviewVersions") or []):
            versions = hook.get("admissionReviewVersions")
            text = "must include at least one of v1, v1beta1"
            causes.append(invalid(f"{where}.admissionReviewVersions", versions, text))
        causes += _one_of(f"{where}.failurePolicy", hook.get("failurePolicy"), ("Fail", "Ignore"))
        for j, rule in enumerate(hook.get("rules") or []):
            for key in ("operations", "apiGroups", "apiVersions", "resources"):
                if not rule.get(key):
                    causes.append(required(f"{where}.rules[{j}].{key}"))
        for key in ("namespaceSelector", "objectSelector"):
            causes += _selector(f"{where}.{key}", hook.get(key) or {})
    return causes


_KINDS: dict[str, Callable[[Object], list[Cause]]] = {
    PODS: _pod,
    "/services": _service,
    "/configmaps": _data_keys,
    "/secrets": _data_keys,
    "/replicationcontrollers": _replication_controller,
    "apps/deployments": _workload,
    "apps/replicasets": _workload,
    "apps/statefulsets": _workload,
    "apps/daemonsets": _workload,
    "batch/jobs": _job,
    "admissionregistration.k8s.io/mutatingwebhookconfigurations": _webhooks,
    "admissionregistration.k8s.io/validatingwebhookconfigurations": _webhooks,
}

# What may change in a pod that exists (pkg/apis/core/validation, ValidatePodUpdate).
_POD_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_SELECTOR_FIXED = frozenset(
    {"apps/deployments", "apps/replicasets", "apps/statefulsets", "apps/daemonsets", "batch/jobs"}
)


def keep_immutable(kind: Kind, old: Object, new: Object, subresource: str) -> None:
    """Refuse an update of what may not change. Raises 422."""
    causes: list[Cause] = _no_new_finalizers(old["metadata"], new["metadata"])
    if kind.resource == "/namespaces":
        new["spec"] = old.get("spec", {})  # finalizers of a namespace change through `finalize` alone
    elif kind.resource == PODS and not subresource:
        if _fixed_part(old.get("spec") or {}) != _fixed_part(new.get("spec") or {}, old.get("spec") or {}):
            causes.append(forbidden_field("spec", _POD_TEXT))
    elif kind.resource == PODS and subresource == ephemeral.SUBRESOURCE:
        causes += ephemeral.keep_old_ones(old, new)
    elif kind.resource in _SELECTOR_FIXED:
        selector = (new.get("spec") or {}).get("selector")
        if selector != (old.get("spec") or {}).get("selector") and selector:
            causes.append(invalid("spec.selector", selector, "field is immutable"))
    elif kind.resource in ("/configmaps", "/secrets") and old.get("immutable") and _data(old) != _data(new):
        causes.append(forbidden_field("data", "field is immutable when `immutable` is set"))
    if kind.resource == "/secrets" and new.get("type", "Opaque") != old.get("type"):
        causes.append(invalid("type", new.get("type"), "field is immutable"))
    if causes:
        raise invalid_object(kind.kind, kind.group, old["metadata"]["name"], causes)


def _no_new_finalizers(old: Object, new: Object) -> list[Cause]:
    late = sorted(set(new.get("finalizers") or []) - set(old.get("finalizers") or []))
    if not old.get("deletionTimestamp") or not late:
        return []
    shown = "{" + ", ".join(json_words(tuple(late))) + "}"
    why = "no new finalizers can be added if the object is being deleted, found new finalizers []string"
    return [forbidden_field("metadata.finalizers", why + shown)]


def _data(obj: Object) -> tuple[Any, Any]:
    return obj.get("data"), obj.get("binaryData")


def _fixed_part(spec: Object, old: Object | None = None) -> Object:
    """The part of a pod's spec that may not change; a pod without a node may still get one."""
    mutable = {"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"}
    fixed = {key: value for key, value in spec.items() if key not in mutable}
    if old is not None and not old.get("nodeName"):
        fixed.pop("nodeName", None)
    for section in ("containers", "initContainers"):
        containers = fixed.get(section) or []
        fixed[section] = [{k: v for k, v in c.items() if k not in ("image", "resources")} for c in containers]
    return fixed
