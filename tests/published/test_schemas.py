"""The kinds that labkit installs against what Istio publishes: fields, types, enumerations, what is required."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labkit.installers.embedded import Installation
from tests.published.schema_fields import ANY, SPECS, VERSIONS

Object = dict[str, Any]

INSTALLED: dict[str, Object] = {crd["spec"]["names"]["kind"]: crd for crd in Installation().crds()}


def published(fields: Any, path: str = "spec") -> Iterator[tuple[str, str]]:
    """Every path of the table, with its type."""
    if isinstance(fields, list):
        yield path, "array"
        yield from published(fields[0], f"{path}[]")
    elif isinstance(fields, dict) and "*" in fields:
        yield path, "map"
        yield from published(fields["*"], f"{path}.*")
    elif isinstance(fields, dict):
        yield path, "object"
        for name, inner in fields.items():
            if name.endswith("!"):
                yield f"{path}.{name[:-1]}", "required"
            yield from published(inner, f"{path}.{name.removesuffix('!')}")
    elif "|" in fields:
        yield path, "enum " + " ".join(sorted(fields.split("|")))
    else:
        yield path, fields


def installed(schema: Object, path: str = "spec") -> Iterator[tuple[str, str]]:
    """The same of a schema."""
    kind = str(schema.get("type"))
    if schema.get("enum"):
        yield path, "enum " + " ".join(sorted(schema["enum"]))
    elif kind == "array":
        yield path, "array"
        yield from installed(schema["items"], f"{path}[]")
    elif isinstance(schema.get("additionalProperties"), dict):
        yield path, "map"
        yield from installed(schema["additionalProperties"], f"{path}.*")
    elif kind == "object" and schema.get("x-kubernetes-preserve-unknown-fields"):
        yield path, ANY
    elif kind == "object":
        yield path, "object"
        for name in schema.get("required") or ():
            yield f"{path}.{name}", "required"
        for name, inner in (schema.get("properties") or {}).items():
            yield from installed(inner, f"{path}.{name}")
    else:
        yield path, kind


def spec_of(version: Object) -> Object:
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", SPECS)
def test_fields_types_and_enumerations_are_the_published_ones(kind: str) -> None:
    wanted = set(published(SPECS[kind]))
    for version in INSTALLED[kind]["spec"]["versions"]:
        found = set(installed(spec_of(version)))
        assert sorted(found - wanted) == [], "here, and not published"
        assert sorted(wanted - found) == [], "published, and not here"


@pytest.mark.parametrize("kind", VERSIONS)
def test_groups_versions_and_short_names_are_the_published_ones(kind: str) -> None:
    group, versions, short = VERSIONS[kind]
    spec = INSTALLED[kind]["spec"]
    assert spec["group"] == group
    assert sorted(one["name"] for one in spec["versions"] if one["served"]) == sorted(versions)
    assert spec["names"].get("shortNames", []) == ([short] if short else [])
    assert all("status" in one["subresources"] for one in spec["versions"])


# x-kubernetes-list-type: map, and its keys
MAPS = {
    ("ServiceEntry", "spec.ports"): ["name"],
    ("WasmPlugin", "spec.match[].ports"): ["number"],
    ("WasmPlugin", "spec.vmConfig.env"): ["name"],
}


def test_lists_are_merged_by_the_published_keys() -> None:
    def lists(schema: Object, path: str) -> Iterator[tuple[str, list[str]]]:
        if schema.get("x-kubernetes-list-type") == "map":
            yield path, schema["x-kubernetes-list-map-keys"]
        for name, inner in (schema.get("properties") or {}).items():
            yield from lists(inner, f"{path}.{name}")
        if schema.get("type") == "array":
            yield from lists(schema["items"], f"{path}[]")

    found = {
        (kind, path): keys
        for kind, crd in INSTALLED.items()
        for version in crd["spec"]["versions"]
        for path, keys in lists(spec_of(version), "spec")
    }
    assert found == MAPS


def test_there_is_no_kind_beside_the_published_ones() -> None:
    assert INSTALLED.keys() == SPECS.keys() == VERSIONS.keys()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mtls": {"mode": "UNSET|DISABLE|PERMISSIVE|STRICT|LAX"}}, "spec.mtls.mode"),
        ({"futile": "string"}, "spec.futile"),
        ({"mtls!": {"mode": "UNSET|DISABLE|PERMISSIVE|STRICT"}}, "required"),
    ],
)
def test_a_deviation_would_be_found(change: Object, said: str) -> None:
    kind = "PeerAuthentication"
    other = {**{name: value for name, value in SPECS[kind].items() if f"{name}!" not in change}, **change}
    found = set(installed(spec_of(INSTALLED[kind]["spec"]["versions"][0])))
    assert said in str(sorted(set(published(other)) ^ found))
