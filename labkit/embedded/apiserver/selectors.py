"""Label and field selectors, as text in a query and as objects in a spec. Pure.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from labkit.embedded.apiserver.failures import bad_request

Object = dict[str, Any]
Labels = Mapping[str, str]
LabelTest = Callable[[Labels], bool]
FieldTest = Callable[[Object], bool]

_NAME = r"(?:[A-Za-z0-9.-]+/)?[A-Za-z0-9]?[A-Za-z0-9_.-]*"
_SET = re.compile(rf"\s*({_NAME})\s+(in|notin)\s*\(([^()]*)\)\s*(?:,|$)")
_COMPARE = re.compile(rf"\s*({_NAME})\s*(==|=|!=|>|<)\s*([^,\s=!<>()]*)\s*(?:,|$)")
_EXISTS = re.compile(rf"\s*(!?)\s*({_NAME})\s*(?:,|$)")


def parse_labels(text: str) -> LabelTest:
    """A test of labels from `a=b,c!=d,e in (f,g),h,!i`. Raises 400 when it cannot be read."""
    tests: list[LabelTest] = []
    position = 0
    while position < len(text):
        for pattern, make in ((_SET, _set_test), (_COMPARE, _compare_test), (_EXISTS, _exists_test)):
            match = pattern.match(text, position)
            if match and match.end() > position:
                tests.append(make(*match.groups()))
                position = match.end()
                break
        else:
            raise bad_request(f"unable to parse requirement: found '{text[position:]}', expected: identifier")
    if text.rstrip().endswith(","):
        raise bad_request("unable to parse requirement: found '', expected: identifier after ','")
    return lambda labels: all(test(labels) for test in tests)


def _set_test(key: str, operator: str, values: str) -> LabelTest:
    wanted = {value.strip() for value in values.split(",")}
    if operator == "in":
        return lambda labels: labels.get(key) in wanted
    return lambda labels: labels.get(key) not in wanted


def _compare_test(key: str, operator: str, value: str) -> LabelTest:
    if not key:
        raise bad_request(f"unable to parse requirement: found '{operator}', expected: identifier")
    if operator in (">", "<"):
        if not re.fullmatch(r"-?\d{1,18}", value):
            raise bad_request(f"values[0][{key}]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, must be int")
        number = int(value)
        return lambda labels: _is_beyond(labels.get(key), operator, number)
    if operator == "!=":
        return lambda labels: labels.get(key) != value
    return lambda labels: labels.get(key) == value


def _is_beyond(value: str | None, operator: str, number: int) -> bool:
    if value is None or not re.fullmatch(r"-?\d{1,18}", value):
        return False
    return int(value) > number if operator == ">" else int(value) < number


def _exists_test(negation: str, key: str) -> LabelTest:
    if not key:
        raise bad_request("unable to parse requirement: found ',', expected: identifier")
    return (lambda labels: key not in labels) if negation else (lambda labels: key in labels)


def selector_test(selector: Object | None) -> LabelTest:
    """A test from a LabelSelector object (`matchLabels`, `matchExpressions`); an empty one takes everything."""
    tests: list[LabelTest] = []
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        tests.append(_compare_test(key, "=", value))
    for expression in (selector or {}).get("matchExpressions") or []:
        tests.append(_expression_test(expression))
    return lambda labels: all(test(labels) for test in tests)


def _expression_test(expression: Object) -> LabelTest:
    key, operator = expression.get("key", ""), expression.get("operator", "")
    values = set(expression.get("values") or [])
    if operator == "In":
        return lambda labels: labels.get(key) in values
    if operator == "NotIn":
        return lambda labels: labels.get(key) not in values
    if operator == "Exists":
        return lambda labels: key in labels
    return lambda labels: key not in labels


_COMMON_FIELDS = ("metadata.name", "metadata.namespace")
# https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/#list-of-supported-fields
_FIELDS: dict[str, tuple[str, ...]] = {
    "/pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "/events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "/secrets": ("type",),
    "/namespaces": ("status.phase",),
    "/nodes": ("spec.unschedulable",),
    "/services": ("spec.clusterIP", "spec.type"),
    "/replicationcontrollers": ("status.replicas",),
    "apps/replicasets": ("status.replicas",),
    "batch/jobs": ("status.successful",),
}


def parse_fields(text: str, resource: str, selectable: tuple[str, ...] = ()) -> FieldTest:
    """A test of objects from `metadata.name=x,status.phase!=Failed`. Raises 400 for a field that has no index."""
    tests: list[FieldTest] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([A-Za-z0-9_.]+)\s*(==|=|!=)\s*(.*)", part)
        if not match:
            raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
        path, operator, value = match.groups()
        if path not in (*_COMMON_FIELDS, *_FIELDS.get(resource, ()), *selectable):
            raise bad_request(f"field label not supported: {path}")
        tests.append(_field_test(path.split("."), operator, value))
    return lambda obj: all(test(obj) for test in tests)


def _field_test(path: list[str], operator: str, value: str) -> FieldTest:
    def test(obj: Object) -> bool:
        found: Any = obj
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        if isinstance(found, bool):
            found = str(found).lower()
        elif isinstance(found, dict):  # events: `source` means its component
            found = found.get("component")
        return (str(found if found is not None else "") == value) == (operator != "!=")

    return test
