"""Everything that learners apply is valid on a real mesh, and has an effect here.

Each manifest, and each one that is written out in a lesson, is read by Istio's published schema (`reading`, which
shares nothing with labkit), by the definitions that labkit installs, by Istio's webhook, and by the API server's
rules for Kubernetes' own kinds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from labkit.embedded.apiserver import customresources, decoding, validation
from labkit.embedded.apiserver.resources import BUILTIN
from labkit.embedded.controlplane.webhooks import judge_applied
from labkit.installers.embedded import Installation
from tests.published import reading

Object = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
DEFINED = {
    (one.api_version, one.kind): one
    for definition in Installation().crds()
    for one in customresources.kinds_of(definition)
}
KUBERNETES = {(one.api_version, one.kind): one for one in BUILTIN}


# What is said on purpose: Istio says so as well, or the lesson shows it.
SAID_ANYWAY = (
    "EnvoyFilter exposes internal implementation details",
    "WorkloadGroup is stored, and not acted on",
)
# No object of a cluster but settings for an installer, which tests/unit/installers read.
SETTINGS = ("IstioOperator",)
# What a lesson fills in when it runs.
FILLED_IN = {"ADDRESS": "192.0.2.1", "MODULE": "file:///response-header.wasm"}


def objects_in(text: str) -> Iterator[Object]:
    for one in yaml.safe_load_all(text):
        if isinstance(one, dict):
            yield from (one.get("items") or ()) if one.get("kind") == "List" else (one,)


def _from_files() -> Iterator[Any]:
    for path in sorted((ROOT / "manifests").rglob("*.y*ml")):
        text = path.read_text(encoding="utf-8")
        for word, value in FILLED_IN.items():
            text = text.replace(word, value)
        for obj in objects_in(text):
            if obj.get("kind") not in SETTINGS:
                yield pytest.param(obj, id=f"{path.relative_to(ROOT)}: {obj.get('kind')}")


def _from_lessons() -> Iterator[Any]:
    """YAML in the cells of notebooks: a text between three quotes, a file that a cell writes, a fenced block."""
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            for text in manifests_of("".join(cell["source"])):
                for obj in (one for one in objects_in(text) if one.get("kind") not in SETTINGS):
                    yield pytest.param(obj, id=f"{path.relative_to(ROOT)} cell {number}: {obj.get('kind')}")


def manifests_of(cell: str) -> list[str]:
    """The manifests that a cell shows whole. What holds a place for the learner's answer, or for what is known only
    when it runs, is none, and what is attempted is wrong on purpose.
    """
    cell = re.sub(r'\bf"""(.*?)"""', "", cell, flags=re.DOTALL)
    cell = re.sub(r'lab\.attempt\(\s*"""(.*?)"""', "", cell, flags=re.DOTALL)
    blocks = re.findall(r'(?:"""|\'\'\'|```yaml\n)(.*?)(?:"""|\'\'\'|```)', cell, re.DOTALL)
    if cell.startswith("%%writefile"):
        blocks.append(cell.partition("\n")[2])
    return [one for one in blocks if re.search(r"^\s*apiVersion:", one, re.MULTILINE) and "..." not in one]


def complaints(obj: Object) -> list[str]:
    """All that anybody has against an object."""
    key = (str(obj.get("apiVersion")), str(obj.get("kind")))
    if "istio.io/" in key[0]:
        said = judge_applied(obj)
        warnings = [one for one in said.warnings if not one.startswith(SAID_ANYWAY)]
        return [*reading.complaints(obj), *_defined(key, obj), *said.errors, *warnings]
    if key not in KUBERNETES:
        return [f"{key[1]} is not served as {key[0]}"]
    kind = KUBERNETES[key]
    decoded, unknown = decoding.decode_builtin(obj, kind.model)
    return [*(f"unknown field {path}" for path in unknown), *map(str, validation.validate(kind, decoded, None))]


def _defined(key: tuple[str, str], obj: Object) -> list[str]:
    if key not in DEFINED:
        return [f"{key[1]} is not installed as {key[0]}"]
    decoded, unknown = customresources.decode(DEFINED[key], obj)
    causes = map(str, customresources.validate(DEFINED[key], decoded))
    return [*(f"unknown field {path}" for path in unknown), *causes]


@pytest.mark.parametrize("obj", [*_from_files(), *_from_lessons()])
def test_what_is_applied_here_is_valid_there(obj: Object) -> None:
    assert complaints(obj) == []


STRICT: Object = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"name": "default", "namespace": "foo"},
    "spec": {"mtls": {"mode": "STRICT"}},
}
SERVICE: Object = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "a"},
    "spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]},
}


@pytest.mark.parametrize(
    ("obj", "readers"),
    [
        (STRICT | {"spec": {"mtls": {"mod": "STRICT"}}}, 2),
        (STRICT | {"spec": {"mtls": {"mode": "STRIKT"}}}, 2),
        (STRICT | {"spec": {"mtls": {"mode": True}}}, 2),
        (STRICT | {"apiVersion": "security.istio.io/v2"}, 2),
        (STRICT | {"spec": {"mtls": {"mode": "STRICT"}, "portLevelMtls": {"80": {"mode": "STRICT"}}}}, 1),
        (STRICT | {"data": {}}, 2),
        (SERVICE | {"spec": {"ports": [{"port": 80, "targetport": 80}]}}, 1),
        (SERVICE | {"spec": {"ports": [{"port": 80000}]}}, 1),
        (SERVICE | {"apiVersion": "v2"}, 1),
    ],
    ids=["field", "value", "type", "version", "webhook", "top", "kubernetes field", "kubernetes value", "kubernetes"],
)
def test_a_mistake_is_found(obj: Object, readers: int) -> None:
    """The twin, by each reader that looks at it."""
    assert complaints(STRICT) == complaints(SERVICE) == []
    assert len(complaints(obj)) >= readers


def test_a_field_without_an_effect_is_a_complaint_too() -> None:
    routed = STRICT | {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy"}
    targets = [{"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "a"}]
    assert "spec.targetRefs has no effect" in str(complaints(routed | {"spec": {"rules": [{}], "targetRefs": targets}}))


def test_manifests_are_found_in_cells() -> None:
    text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"
    for cell in (f'lab.apply("""\n{text}""")', f"%%writefile a.yaml\n{text}", f"Look:\n```yaml\n{text}```\n"):
        (found,) = manifests_of(cell)
        assert next(objects_in(found))["kind"] == "Namespace"
    assert manifests_of('lab.apply("""\napiVersion: ...\n""")') == []
    assert manifests_of(f'lab.apply(f"""\n{text}""")') == []
    assert manifests_of(f'lab.attempt("""\n{text}""")') == []
