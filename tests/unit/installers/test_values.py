"""Reading what configures a mesh: files, text, tables, and --set."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.errors import InputError
from labkit.installers.embedded import Installation
from labkit.installers.values import load_values
from labkit.policy.mesh_values import read_mesh_values


def test_later_sources_go_over_earlier_ones_and_set_over_all(tmp_path: Path) -> None:
    first, text = tmp_path / "values.yaml", "meshConfig: {trustDomain: b}\n"
    first.write_text("meshConfig: {trustDomain: a, enableAutoMtls: true}\nrevision: canary\n")
    found = load_values([first, text, {"revision": "next"}], ["meshConfig.enableAutoMtls=false"])
    assert found == {"meshConfig": {"trustDomain": "b", "enableAutoMtls": False}, "revision": "next"}
    assert load_values(str(first))["revision"] == "canary"
    assert load_values() == {}


def test_with_an_operator_set_is_about_its_spec() -> None:
    written = {"kind": "IstioOperator", "spec": {"revision": "a"}}
    found = load_values(written, ["meshConfig.trustDomain=b", "values.global.proxy.logLevel=debug"])
    assert found["spec"]["meshConfig"] == {"trustDomain": "b"}
    assert read_mesh_values(found).injection == {"global": {"proxy": {"logLevel": "debug"}}}
    assert written == {"kind": "IstioOperator", "spec": {"revision": "a"}}, "it is not changed"


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [\n"])
def test_what_is_no_table_is_one_clear_error(text: str) -> None:
    with pytest.raises(InputError):
        load_values(text)


def test_a_file_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(InputError, match="no file"):
        load_values("no-such-file.yaml")


def test_settings_go_into_the_objects_that_are_applied() -> None:
    values = read_mesh_values(
        {
            "meshConfig": {"trustDomain": "corp.example"},
            "global": {"proxy": {"logLevel": "debug"}},
            "pilot": {"env": {"DEFAULT_WORKLOAD_CERT_TTL": "1h"}},
        }
    )
    objects = {(one["kind"], one["metadata"]["name"]): one for one in Installation(values=values).control_plane()}
    mesh = objects["ConfigMap", "istio"]["data"]["mesh"]
    assert "trustDomain: corp.example" in mesh and "rootNamespace: istio-system" in mesh
    injector = objects["ConfigMap", "istio-sidecar-injector"]["data"]["values"]
    assert '"logLevel": "debug"' in injector and "proxyv2" in injector
    (container,) = objects["Deployment", "istiod"]["spec"]["template"]["spec"]["containers"]
    lives = [one["value"] for one in container["env"] if one["name"] == "DEFAULT_WORKLOAD_CERT_TTL"]
    assert lives == ["1h"]
    plain = Installation().control_plane()
    assert "corp.example" not in str(plain) and "'24h'" in str(plain)
