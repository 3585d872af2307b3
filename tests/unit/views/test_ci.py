"""What build servers read: the fields that SARIF 2.1.0 requires, and JUnit."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from labkit.policy.declared import DeclaredMesh
from labkit.policy.declared.mesh import Key
from labkit.policy.declared.verifying import RULES, Case, Verification, verify
from labkit.views.ci import to_junit, to_sarif
from tests.unit.policy.declared.objects import CLIENT, WEB, WORLD, peers

FOUND = verify(DeclaredMesh(WORLD))


def places(key: Key) -> tuple[str, int] | None:
    return ("apps/naked.yaml", 7) if key == ("Deployment", "bar", "naked") else None


# Section 3 of https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html: what SHALL be there.
def test_sarif_has_what_is_required() -> None:
    log = to_sarif(FOUND, places)
    assert log["version"] == "2.1.0" and log["$schema"].startswith("https://")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"]
    for rule in driver["rules"]:
        assert rule["id"] and rule["shortDescription"]["text"] and rule["helpUri"].startswith("https://")
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
    assert len(run["results"]) == 3
    for result in run["results"]:
        assert result["message"]["text"]
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert len(result["partialFingerprints"]["edges/v1"]) == 32
        for location in result["locations"]:
            for logical in location["logicalLocations"]:
                assert logical["fullyQualifiedName"]


def locations(log: dict[str, Any]) -> list[Any]:
    return [one["locations"][0].get("physicalLocation") for one in log["runs"][0]["results"]]


def test_a_finding_stands_where_its_object_does() -> None:
    expected = {"artifactLocation": {"uri": "apps/naked.yaml"}, "region": {"startLine": 7}}
    assert expected in locations(to_sarif(FOUND, places))
    assert set(map(str, locations(to_sarif(FOUND)))) == {"None"}, "on a cluster nothing stands in a file"


def test_fingerprints_are_the_same_every_time_and_differ_between_findings() -> None:
    first, again = (to_sarif(verify(DeclaredMesh(WORLD)))["runs"][0]["results"] for _ in range(2))
    prints = [one["partialFingerprints"]["edges/v1"] for one in first]
    assert prints == [one["partialFingerprints"]["edges/v1"] for one in again]
    assert len(set(prints)) == len(prints)


def test_nothing_found_is_a_run_without_results() -> None:
    (run,) = to_sarif(verify(DeclaredMesh([*WEB, *CLIENT])))["runs"]
    assert (run["results"], run["tool"]["driver"]["rules"]) == ([], [])


@pytest.mark.parametrize("name", RULES)
def test_every_rule_can_be_written(name: str) -> None:
    assert RULES[name][0].endswith(".")


def test_junit_has_a_test_for_each_call() -> None:
    root = ElementTree.fromstring(to_junit("labkit verify", FOUND).partition("\n")[2])
    assert (root.get("tests"), root.get("failures")) == ("6", "4")
    assert len(root.findall("testsuite/testcase")) == 6
    assert len(root.findall("testsuite/testcase/failure")) == 4
    failure = root.find("testsuite[@name='foo/web:8080']/testcase[@name='bar/naked']/failure")
    assert failure is not None and "no sidecar" in str(failure.get("message"))
    strict = verify(DeclaredMesh([*WEB, *CLIENT, peers("STRICT")]))
    clean = ElementTree.fromstring(to_junit("x", strict).partition("\n")[2])
    assert (clean.get("tests"), clean.get("failures")) == ("2", "0")


def test_junit_survives_what_xml_cannot_hold() -> None:
    odd = Verification((Case("a<b", "c\x00&", "d\x1b[0m"),), ())
    root = ElementTree.fromstring(to_junit("x", odd).partition("\n")[2])
    assert root.find("testsuite/testcase/failure") is not None
