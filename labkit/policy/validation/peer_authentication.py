"""What a PeerAuthentication must look like to be accepted, with the messages that Istio and Kubernetes give.

A cluster checks twice: first the API server against the schema of the CustomResourceDefinition, then istiod's
webhook. Both are here, so that a manifest can be judged before it is applied, and the webhook can answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from labkit.policy.modes import MutualTLSMode
from labkit.policy.validation.common import selector
from labkit.policy.validation.findings import Findings, Validation, judge


def validate_peer_authentication(obj: Mapping[str, Any]) -> Validation:
    """What istiod's webhook says of a PeerAuthentication; what it cannot even read is reported as the schema does.

    A selector in the root namespace is no error: Istio accepts such a policy, and ignores it when merging.
    """
    unreadable = [message for message in validate_schema(obj) if not _left_to_the_webhook(message)]
    if unreadable:
        return Validation(errors=tuple(unreadable))
    spec = obj.get("spec") or {}
    return judge([*selector(spec.get("selector")), *_ports(spec)])


# pkg/config/validation/validation.go ValidatePeerAuthentication
def _ports(spec: Mapping[str, Any]) -> Findings:
    ports = spec.get("portLevelMtls")
    if ports is None:
        return
    if not ports:
        yield "port level mTLS, if defined, must have at least one element"
    for port in ports:
        if not 1 <= int(port) <= 65535:
            yield "port must be in range 1..65535"
    if ports and not (spec.get("selector") or {}).get("matchLabels"):
        yield "mesh/namespace peer authentication cannot have port level mTLS"


# pkg/config/validation/testdata/crds/peerauth-*.yaml
def validate_schema(obj: Mapping[str, Any]) -> tuple[str, ...]:
    """What the API server says of a PeerAuthentication by the schema of its CustomResourceDefinition."""
    spec = obj.get("spec")
    if spec is None:
        return ()
    if not isinstance(spec, Mapping):
        return (_wrong_type("spec", spec, "object"),)
    errors = [*_selector_schema(spec.get("selector")), *_mode_schema(spec.get("mtls"), "spec.mtls")]
    return (*errors, *_ports_schema(spec))


def _selector_schema(selector: object) -> list[str]:
    if selector is None:
        return []
    if not isinstance(selector, Mapping):
        return [_wrong_type("spec.selector", selector, "object")]
    labels = selector.get("matchLabels")
    if labels is None:
        return []
    if not isinstance(labels, Mapping):
        return [_wrong_type("spec.selector.matchLabels", labels, "object")]
    return [
        _wrong_type(f"spec.selector.matchLabels.{key}", value, "string")
        for key, value in labels.items()
        if not isinstance(value, str)
    ]


def _mode_schema(mtls: object, path: str) -> list[str]:
    if mtls is None:
        return []
    if not isinstance(mtls, Mapping):
        return [_wrong_type(path, mtls, "object")]
    mode = mtls.get("mode")
    if mode is None or mode in list(MutualTLSMode):
        return []
    if not isinstance(mode, str):
        return [_wrong_type(f"{path}.mode", mode, "string")]
    supported = ", ".join(f'"{known}"' for known in MutualTLSMode)
    return [f'{path}.mode: Unsupported value: "{mode}": supported values: {supported}']


_PORTS = "spec.portLevelMtls"
_NOT_EMPTY = f"{_PORTS}: Invalid value: 0: {_PORTS} in body should have at least 1 properties"
_PORT_RANGE = f'{_PORTS}: Invalid value: "object": port must be between 1-65535'
_NEEDS_SELECTOR = 'spec: Invalid value: "object": portLevelMtls requires selector'


def _ports_schema(spec: Mapping[str, Any]) -> list[str]:
    ports = spec.get("portLevelMtls")
    if ports is None:
        return []
    if not isinstance(ports, Mapping):
        return [_wrong_type(_PORTS, ports, "object")]
    errors = [] if ports else [_NOT_EMPTY]
    for port, mtls in ports.items():
        errors += _mode_schema(mtls, f"{_PORTS}.{port}")
    if any(not re.fullmatch(r"[+-]?\d+", str(port)) for port in ports):
        conversion = "type conversion error from 'string' to 'int'"
        errors.append(f'{_PORTS}: Invalid value: "object": {conversion} evaluating rule: port must be between 1-65535')
    elif any(not 1 <= int(port) <= 65535 for port in ports):
        errors.append(_PORT_RANGE)
    selector = spec.get("selector")
    if isinstance(selector, Mapping | None) and not (selector or {}).get("matchLabels"):
        errors.append(_NEEDS_SELECTOR)
    return errors


def _left_to_the_webhook(message: str) -> bool:
    """What both checks find is said in the webhook's own words."""
    return message in (_NOT_EMPTY, _PORT_RANGE, _NEEDS_SELECTOR)


_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def _wrong_type(path: str, value: object, expected: str) -> str:
    found = _TYPES.get(type(value), "null")
    return f'{path}: Invalid value: "{found}": {path} in body must be of type {expected}: "{found}"'
