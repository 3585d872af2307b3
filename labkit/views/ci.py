"""What was found, in the forms that build servers read: SARIF 2.1.0 for code scanning, JUnit for test reports.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

from labkit.policy.declared.mesh import Key
from labkit.policy.declared.verifying import RULES, Case, Finding, Verification
from labkit.views.sarif import Result, Rule, sarif_log

Places = Callable[[Key], tuple[str, int] | None]
"""Where an object stands: (path, line); None if it stands in no file."""


def to_sarif(verification: Verification, places: Places = lambda _: None) -> dict[str, Any]:
    """A SARIF log with one run: each finding is a result, at the object that decides."""
    rules = (_rule(name) for name in RULES)
    return sarif_log(rules, (_result(one, places) for one in verification.findings))


def _rule(name: str) -> Rule:
    sentence, link = RULES[name]
    title = "".join(part.capitalize() for part in f"mtls-{name}".split("-"))
    return Rule(f"mtls/{name}", title, sentence, link)


def _result(finding: Finding, places: Places) -> Result:
    because = finding.because
    text = f"{finding.message}\n{because.rule.sentence} {because.rule.link}" if because else finding.message
    about = f"{finding.rule} {sorted(finding.edges)} {finding.message if not finding.edges else ''}"
    found = next(((key, at) for key in finding.objects if (at := places(key))), None)
    path, line = found[1] if found else ("", 0)
    named = found[0] if found else next(iter(finding.objects), ())
    return Result(f"mtls/{finding.rule}", text, path=path, line=line, object=named, about=about)


def to_junit(name: str, verification: Verification) -> str:
    """A JUnit report: each thing that was looked at is a test, those of one server together."""
    suites: dict[str, list[Case]] = {}
    for case in verification.cases:
        suites.setdefault(case.group, []).append(case)
    counted = _counts(list(verification.cases))
    root = ElementTree.Element("testsuites", {"name": name, **counted})
    for group, cases in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", {"name": _clean(group), **_counts(cases)})
        for case in cases:
            attributes = {"classname": _clean(group), "name": _clean(case.name), "time": "0"}
            test = ElementTree.SubElement(suite, "testcase", attributes)
            if case.wrong:
                failure = ElementTree.SubElement(test, "failure", {"message": _clean(case.wrong), "type": "declared"})
                failure.text = _clean(case.wrong)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def _counts(cases: list[Case]) -> Mapping[str, str]:
    failed = sum(bool(case.wrong) for case in cases)
    return {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "skipped": "0", "time": "0"}


def _clean(text: str) -> str:
    """Without what XML cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd]", "?", text)
