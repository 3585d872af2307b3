"""Findings as SARIF, the form that code hosts show beside the lines of a change. Pure.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True)
class Result:
    """One finding. `level` is error, warning or note; `path` is a file below the top of the repository, if any."""

    rule: str
    name: str
    level: str
    text: str
    link: str = ""
    path: str = ""
    line: int = 0
    subject: str = ""
    """What it is about, such as `VirtualService shop/web`: shown where there is no file."""


def sarif(tool: str, results: Iterable[Result], *, version: str = "", home: str = "") -> dict[str, Any]:
    """A SARIF log with one run."""
    found = list(results)
    rules = {one.rule: one for one in found}
    driver: dict[str, Any] = {"name": tool, "rules": [_rule(one) for _, one in sorted(rules.items())]}
    if version:
        driver["version"] = version
    if home:
        driver["informationUri"] = home
    order = {name: index for index, name in enumerate(sorted(rules))}
    run = {"tool": {"driver": driver}, "results": [_result(one, order[one.rule]) for one in found]}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(one: Result) -> dict[str, Any]:
    rule: dict[str, Any] = {"id": one.rule, "name": one.name, "shortDescription": {"text": one.name}}
    if one.link:
        rule["helpUri"] = one.link
    return rule


def _result(one: Result, index: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": one.rule,
        "ruleIndex": index,
        "level": one.level,
        "message": {"text": f"{one.subject}: {one.text}" if one.subject else one.text},
    }
    location: dict[str, Any] = {}
    if one.path:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": one.path.replace("\\", "/")},
            "region": {"startLine": max(one.line, 1)},
        }
    if one.subject:
        location["logicalLocations"] = [{"fullyQualifiedName": one.subject}]
    if location:
        result["locations"] = [location]
    return result
