"""What a notebook is told to do next, said as a command on the command line."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import labkit
from labkit.cli import main
from labkit.cli.hints import COMMANDS, as_commands, in_data
from labkit.cli.shared import LabGroup, cluster_option, emit, json_option
from labkit.errors import InputError
from labkit.lab import Lab

ROOMS = ("cluster", "embedded", "installers", "lab", "observe", "policy", "views", "worlds")
IN_NOTEBOOKS_ALONE = {"predict", "answer", "compare", "mint_ca", "annotate", "heal", "leave"}
"""Verbs of hints that are reached from notebooks only: no command asks for a prediction or mints a certificate."""


@pytest.mark.parametrize(
    ("said", "command"),
    [
        ("Look at lab.pods().", "Look at 'kubectl get pods -A'."),
        ("Look at lab.pods('shop').", "Look at 'kubectl get pods -n shop'."),
        (
            "Make it: lab.create_namespace('x'), or 'kubectl create namespace x'.",
            "Make it: 'kubectl create namespace x'.",
        ),
        ("Install one: lab.install_mesh(), or labkit mesh install.", "Install one: 'labkit mesh install'."),
        ("lab.restart('shop/web')", "'kubectl rollout restart -n shop deployment/web'"),
        ("lab.logs('shop/web', container='istio-proxy')", "'kubectl logs -n shop deployment/web -c istio-proxy'"),
        ("lab.wait_until_ready('shop')", "'kubectl wait -n shop --for=condition=Ready pods --all'"),
        ("lab.wait_until_ready('shop/web')", "'kubectl rollout status -n shop deployment/web'"),
        ("lab.label_namespace('shop', {'istio.io/rev': 'x'})", "'kubectl label namespace shop istio.io/rev=x'"),
        ("lab.label_namespace('shop', {'istio.io/rev': None})", "'kubectl label namespace shop istio.io/rev-'"),
        ("lab.certificate(workload, 8080)", "'labkit certificate WORKLOAD 8080'"),
        ("lab.proxy_log('a/b', 'rbac:debug')", "'labkit proxy-log a/b --level rbac:debug'"),
        ('`lab.drill("one")`; lab.drills() lists', "`labkit drill start one`; 'labkit drill list' lists"),
        ("use labkit.open('embedded').", "use '--cluster embedded'."),
        ("lab.disagreements(seconds=5)", "'labkit disagreements --seconds 5'"),
        ("lab.prometheus('namespace/service')", "'--where namespace/service'"),
        ("lab.platform('aks', name='...')", "'labkit platform aks --set name=...'"),
        ("lab.configure_mesh(set=['a.b=c'])", "'labkit mesh configure --set a.b=c'"),
        # what no command does, and what goes on in Python, stays
        ("lab.visit('https://x/', trust=lab.minted('y'))", "lab.visit('https://x/', trust=lab.minted('y'))"),
        ("lab.metrics('shop').plaintext() names", "lab.metrics('shop').plaintext() names"),
        ("a lab (the room)", "a lab (the room)"),
        ("lab.pods(", "lab.pods("),
        ("collab.pods()", "collab.pods()"),
    ],
)
def test_a_verb_becomes_the_command_that_does_the_same(said: str, command: str) -> None:
    assert as_commands(said) == command


def test_the_command_names_the_cluster_that_was_asked() -> None:
    twice = "lab.install_mesh(), or 'labkit mesh install'."
    assert as_commands(twice, "embedded:two") == "'labkit mesh install --cluster embedded:two'."
    other = "lab.mesh_status(), or 'kubectl get pods -A -l app=istiod'."
    assert as_commands(other) == "'labkit mesh status', or 'kubectl get pods -A -l app=istiod'."
    assert as_commands("lab.analyze()", "embedded:two") == "'labkit analyze --cluster embedded:two'"
    assert as_commands("lab.analyze() lab.pods()", "prod") == (
        "'labkit analyze --cluster prod' 'kubectl --context prod get pods -A'"
    )
    assert in_data({"next": ["lab.analyze()", 3]}) == {"next": ["'labkit analyze'", 3]}


def _hints() -> set[str]:
    """The verbs that texts of the rooms name."""
    found: set[str] = set()
    for room in ROOMS:
        for path in sorted((Path(labkit.__file__).parent / room).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            docstrings = {
                id(node.value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                    found |= {match[1] for match in re.finditer(r"\blab\.([a-z_]+)\(", node.value)}
    return found


def test_every_verb_that_an_error_names_has_a_command() -> None:
    named = _hints()
    assert {"pods", "install_mesh", "rates"} <= named, "the search finds hints"
    assert named - IN_NOTEBOOKS_ALONE <= {*COMMANDS}
    assert {*COMMANDS} - {"open", "effective_mtls"} <= {*dir(Lab)}, "each is a verb that there is"


def _command_words() -> list[list[str]]:
    return [as_commands(f"lab.{verb}()").strip("'").split() for verb in COMMANDS if verb != "open"]


@pytest.mark.parametrize("words", _command_words(), ids=" ".join)
def test_each_such_command_exists(words: list[str]) -> None:
    if words[0] != "labkit":
        assert words[0] in ("kubectl", "--where")
        return
    command: click.Command = main
    for word in words[1:]:
        found = command.commands.get(word) if isinstance(command, click.Group) else None
        if found is None:
            break
        command = found
    assert command is not main and not isinstance(command, click.Group), words
    options = {option for one in command.params for option in one.opts}
    assert {word for word in words if word.startswith("-")} <= options


def _program() -> click.Group:
    @click.group(cls=LabGroup)
    def program() -> None: ...

    @program.command()
    @cluster_option
    @json_option
    @click.option("--fail", is_flag=True)
    def ask(cluster: str, as_json: bool, fail: bool) -> None:
        if fail:
            raise InputError("No.", next_step="Look at lab.pods().")
        emit({"next": "lab.analyze()"}, as_json, "Then lab.analyze().")

    return program


def test_errors_and_results_name_commands() -> None:
    run = CliRunner().invoke
    failed = run(_program(), ["ask", "--fail", "--cluster", "prod"])
    assert (failed.exit_code, "kubectl --context prod get pods -A" in failed.output) == (2, True)
    assert run(_program(), ["ask"]).output == "Then 'labkit analyze'.\n"
    assert json.loads(run(_program(), ["ask", "--json"]).output) == {"next": "'labkit analyze'"}
    assert str(InputError("No.", next_step="Look at lab.pods().")).endswith("lab.pods()."), "a notebook keeps its verbs"
