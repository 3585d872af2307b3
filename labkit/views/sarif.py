"""Findings as SARIF 2.1.0, the form that code hosts show beside the lines of a change. Pure.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import labkit

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


@dataclass(frozen=True)
class Rule:
    """One kind of finding. `level` is error, warning or note."""

    id: str
    name: str
    description: str
    link: str
    level: str = "error"


@dataclass(frozen=True)
class Result:
    """One finding: by which rule, about which object, and in which line of which file if it came from one."""

    rule: str
    text: str
    level: str = "error"
    path: str = ""
    line: int = 0
    object: Sequence[str] = ()
    """Kind, namespace (may be empty) and name."""
    about: str = ""
    """What stays the same when lines move: a code host then knows a finding again."""


def sarif_log(rules: Iterable[Rule], results: Iterable[Result]) -> dict[str, Any]:
    """A SARIF log with one run; of the rules, those that some result names."""
    found = list(results)
    used = [rule for rule in rules if any(one.rule == rule.id for one in found)]
    order = {rule.id: index for index, rule in enumerate(used)}
    driver = {"name": "labkit", "version": labkit.__version__, "rules": [_rule(rule) for rule in used]}
    entries = [_result(one, order[one.rule]) for one in found]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": entries}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.description},
        "helpUri": rule.link,
        "defaultConfiguration": {"level": rule.level},
    }


def _result(one: Result, index: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": one.rule,
        "ruleIndex": index,
        "level": one.level,
        "message": {"text": one.text},
    }
    if one.about:
        result["partialFingerprints"] = {"edges/v1": hashlib.sha256(one.about.encode()).hexdigest()[:32]}
    location: dict[str, Any] = {}
    if one.path:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": one.path.replace("\\", "/")},
            "region": {"startLine": max(one.line, 1)},
        }
    if one.object:
        full = "/".join(part for part in one.object if part)
        named = {"name": one.object[-1], "fullyQualifiedName": full, "kind": "resource"}
        location["logicalLocations"] = [named]
    if location:
        result["locations"] = [location]
    return result
