"""What Istio's webhook says of each object, as istioctl says it, and objects whose fields have the wrong form.

pkg/config/analysis/analyzers/schema/validation.go of istio/istio.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.policy.analysis.mesh import Mesh, Object
from labkit.policy.analysis.messages import Message, found
from labkit.policy.validation import CHECKS, validate

KINDS = (*CHECKS, "PeerAuthentication")

_UNREACHABLE = re.compile(r"virtualService rule (.+) not used \((.+)\)")
_INEFFECTIVE = re.compile(
    r"virtualService rule (.+?) match (.+) is not used \(duplicate/overlapping match in rule (.+)\)"
)


def schemas(mesh: Mesh) -> Iterator[Message]:
    """IST0106 what is refused, IST0133 what is warned of; IST0130, IST0131 rules and matches that are never reached."""
    for kind in KINDS:
        for one in mesh.every(kind):
            judged = validate(kind, one)
            for error in judged.errors:
                yield found("IST0106", one, error)
            for warning in judged.warnings:
                yield _warning(one, warning)


def _warning(one: Object, warning: str) -> Message:
    if match := _INEFFECTIVE.fullmatch(warning):
        return found("IST0131", one, *match.groups(), path="spec")
    if match := _UNREACHABLE.fullmatch(warning):
        return found("IST0130", one, *match.groups(), path="spec")
    return found("IST0133", one, warning)


# What the rules read, and the form that it must have. `[]` goes through a list.
_OBJECT, _LIST = dict, list
_SELECTOR = {"spec.selector": _OBJECT, "spec.selector.matchLabels": _OBJECT}
_CONTAINERS = {
    f"{field}{path}": form
    for field in ("containers", "initContainers")
    for path, form in (
        ("", _LIST),
        ("[]", _OBJECT),
        ("[].ports", _LIST),
        ("[].ports[]", _OBJECT),
        ("[].securityContext", _OBJECT),
    )
}
_FORMS: Mapping[str, Mapping[str, type]] = {
    "*": {"metadata": _OBJECT, "metadata.labels": _OBJECT, "metadata.annotations": _OBJECT, "spec": _OBJECT},
    "Service": {"spec.ports": _LIST, "spec.ports[]": _OBJECT, "spec.selector": _OBJECT},
    "Pod": {f"spec.{path}": form for path, form in _CONTAINERS.items()},
    "Deployment": {
        "spec.selector": _OBJECT,
        "spec.selector.matchLabels": _OBJECT,
        "spec.template": _OBJECT,
        "spec.template.metadata": _OBJECT,
        "spec.template.metadata.labels": _OBJECT,
        "spec.template.spec": _OBJECT,
        **{f"spec.template.spec.{path}": form for path, form in _CONTAINERS.items()},
    },
    "Secret": {"data": _OBJECT, "stringData": _OBJECT},
    "PeerAuthentication": {**_SELECTOR, "spec.mtls": _OBJECT, "spec.portLevelMtls": _OBJECT},
    "RequestAuthentication": {**_SELECTOR, "spec.jwtRules": _LIST, "spec.jwtRules[]": _OBJECT},
    "AuthorizationPolicy": {
        **_SELECTOR,
        "spec.rules": _LIST,
        "spec.rules[]": _OBJECT,
        "spec.rules[].from": _LIST,
        "spec.rules[].from[]": _OBJECT,
        "spec.rules[].from[].source": _OBJECT,
        "spec.rules[].to": _LIST,
        "spec.rules[].to[]": _OBJECT,
        "spec.rules[].to[].operation": _OBJECT,
        "spec.rules[].when": _LIST,
        "spec.rules[].when[]": _OBJECT,
    },
    "DestinationRule": {
        "spec.host": str,
        "spec.trafficPolicy": _OBJECT,
        "spec.trafficPolicy.tls": _OBJECT,
        "spec.trafficPolicy.portLevelSettings": _LIST,
        "spec.trafficPolicy.portLevelSettings[]": _OBJECT,
        "spec.trafficPolicy.portLevelSettings[].port": _OBJECT,
        "spec.trafficPolicy.portLevelSettings[].tls": _OBJECT,
        "spec.subsets": _LIST,
        "spec.subsets[]": _OBJECT,
        "spec.subsets[].labels": _OBJECT,
        "spec.exportTo": _LIST,
    },
    "Gateway": {
        "spec.selector": _OBJECT,
        "spec.servers": _LIST,
        "spec.servers[]": _OBJECT,
        "spec.servers[].port": _OBJECT,
        "spec.servers[].hosts": _LIST,
        "spec.servers[].tls": _OBJECT,
    },
    "VirtualService": {
        "spec.hosts": _LIST,
        "spec.gateways": _LIST,
        "spec.exportTo": _LIST,
        **{
            f"spec.{kind}{path}": form
            for kind in ("http", "tcp", "tls")
            for path, form in (
                ("", _LIST),
                ("[]", _OBJECT),
                ("[].match", _LIST),
                ("[].match[]", _OBJECT),
                ("[].match[].uri", _OBJECT),
                ("[].match[].headers", _OBJECT),
                ("[].match[].queryParams", _OBJECT),
                ("[].route", _LIST),
                ("[].route[]", _OBJECT),
                ("[].route[].destination", _OBJECT),
                ("[].route[].destination.port", _OBJECT),
                ("[].mirror", _OBJECT),
            )
        },
    },
    "ServiceEntry": {
        "spec.hosts": _LIST,
        "spec.ports": _LIST,
        "spec.ports[]": _OBJECT,
        "spec.addresses": _LIST,
        "spec.exportTo": _LIST,
        "spec.workloadSelector": _OBJECT,
    },
    "Sidecar": {"spec.workloadSelector": _OBJECT, "spec.workloadSelector.labels": _OBJECT},
}
_NUMBERS: Mapping[str, tuple[str, ...]] = {
    "Service": ("spec.ports[].port",),
    "ServiceEntry": ("spec.ports[].number",),
    "Gateway": ("spec.servers[].port.number",),
    "VirtualService": ("spec.http[].route[].destination.port.number", "spec.http[].route[].weight"),
    "DestinationRule": ("spec.trafficPolicy.portLevelSettings[].port.number",),
}
_SAID: Mapping[type, str] = {dict: "an object", list: "a list", str: "a text"}


def wrong_form(obj: Object) -> str:
    """Which field an API server could not read, and why; empty where all have the right form.

    In a cluster nothing of the kind is stored; files may hold anything.
    """
    kind = str(obj.get("kind"))
    for path, form in {**_FORMS["*"], **_FORMS.get(kind, {})}.items():
        for value in _at(obj, path):
            if (value is not None or path.endswith("[]")) and not isinstance(value, form):
                return f"{path.replace('[]', '')} must be {_SAID[form]}, and is {value!r:.60}"
    for path in _NUMBERS.get(kind, ()):
        for value in _at(obj, path):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                return f"{path.replace('[]', '')} must be a number, and is {value!r:.60}"
    return ""


def _at(value: Any, path: str) -> Iterator[Any]:
    """Every value at a path."""
    head, _, rest = path.partition(".")
    name = head.removesuffix("[]")
    if not isinstance(value, Mapping) or name not in value:
        return
    values = [value[name]]
    if head.endswith("[]"):
        values = list(value[name]) if isinstance(value[name], list) else []
    for one in values:
        if rest:
            yield from _at(one, rest)
        else:
            yield one
