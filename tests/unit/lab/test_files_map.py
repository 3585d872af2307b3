"""The encryption map of a directory of YAML: it says of each edge what `explain` says of the same call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import labkit
from labkit.cli import main

ROOT = Path(__file__).parents[3]
SENTENCES = (ROOT / "manifests/apps/sentences/sidecar", ROOT / "manifests/apps/curl-outside")
STRICT = ROOT / "manifests/lessons/05/strict.yaml"
INJECTED = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sentences", "labels": {"istio.io/rev": "x"}}}


@pytest.fixture
def injected(tmp_path: Path) -> Path:
    file = tmp_path / "namespace.yaml"
    file.write_text(yaml.safe_dump(INJECTED))
    return file


def states(*sources: Path) -> dict[tuple[str, str], str]:
    """By (client, workload behind the Service)."""
    return {(edge.client, edge.server): str(edge.state) for edge in labkit.files(*sources).map().model.edges}


def test_it_says_what_explain_says(injected: Path) -> None:
    for sources in (SENTENCES, (*SENTENCES, injected), (*SENTENCES, injected, STRICT)):
        files = labkit.files(*sources)
        edges = [one for one in files.map().model.edges if one.server == "sentences/age"]
        assert {one.client for one in edges} == {"default/curl-outside", "sentences/sentences"}
        for edge in edges:
            assert str(edge.state) == str(files.explain(edge.client, "sentences/age", 5000).outcome)


def test_labels_and_policies_of_the_files_count(injected: Path) -> None:
    inside, outside = ("sentences/sentences", "sentences/age"), ("default/curl-outside", "sentences/age")
    plain, meshed, strict = states(*SENTENCES), states(*SENTENCES, injected), states(*SENTENCES, injected, STRICT)
    assert (plain[inside], plain[outside]) == ("plaintext", "plaintext")
    assert (meshed[inside], meshed[outside]) == ("mTLS", "plaintext")
    assert (strict[inside], strict[outside]) == ("mTLS", "refused")


def run(*words: Any) -> Result:
    sources = [word for one in SENTENCES for word in ("--from", str(one))]
    return CliRunner().invoke(main, ["map", *sources, *map(str, words)])


def test_from_a_shell(injected: Path, tmp_path: Path) -> None:
    shown = run("--from", injected, "--json")
    edges = json.loads(shown.stdout)["edges"]
    assert shown.exit_code == 0 and {one["state"] for one in edges} == {"mTLS", "plaintext"}
    assert run("sentences", "--table").stdout.startswith("CLIENT")
    picture = tmp_path / "mesh.svg"
    assert run("--output", picture).exit_code == 0 and "<svg" in picture.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--counted",), "Files have counted nothing."),
        (("--layer", "observed"), "Files have counted nothing."),
        (("sentence",), "Did you mean 'sentences'?"),
        (("--from", "nowhere/"), "There is no file 'nowhere/'."),
    ],
)
def test_what_files_cannot_say(words: tuple[str, ...], said: str) -> None:
    shown = run(*words)
    assert (shown.exit_code, said in shown.output) == (2, True), shown.output
