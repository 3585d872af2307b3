"""labkit analyze on files: places, output for people and machines, exit codes, and wrong questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

import labkit
from labkit.cli import main
from labkit.errors import InputError
from labkit.lab.analysis import analyze_files

WEB = """\
# The web of the shop.
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
spec:
  selector:
    app: web
  ports:
  - name: http
    port: 80
  - name: web
    port: 81
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: web
  namespace: shop
spec:
  hosts: [web]
  http:
  - match:
    - uri: {prefix: /old}
    route:
    - destination:
        host: wbe
  - route:
    - destination:
        host: web
        port:
          number: 80
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "web.yaml").write_text(WEB)
    (tmp_path / "values.yaml").write_text("replicas: 3\n")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["analyze", "--use-kube=false", *arguments])


def test_messages_say_file_and_line(shop: Path) -> None:
    done = run(str(shop), "--tool", "istioctl")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        f'Error [IST0101] (VirtualService shop/web {shop}/deep/web.yaml:28) Referenced host not found: "wbe"',
        f"Info [IST0118] (Service shop/web {shop}/deep/web.yaml:13) Port name web (port: 81, targetPort: 81) doesn't "
        "follow the naming convention of Istio port.",
    ]
    assert "1 error, 1 info found when analyzing" in done.stderr


def test_what_is_mended_passes(shop: Path) -> None:
    file = shop / "deep" / "web.yaml"
    file.write_text(
        WEB.replace("wbe", "web.shop.svc.cluster.local\n        port: {number: 80}").replace(
            "name: web\n    port: 81", "name: tcp\n    port: 81"
        )
    )
    done = run(str(shop))
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"✔ No validation issues found when analyzing {shop}.\n"


def test_thresholds(shop: Path) -> None:
    assert run(str(shop), "--output-threshold", "Error", "--tool", "istioctl").stdout.count("\n") == 1
    assert run(str(shop), "--suppress", "IST0101", "--suppress", "KIA1101").exit_code == 0
    assert run(str(shop), "-S", "IST0101=VirtualService web.shop", "-S", "KIA1101=* *").exit_code == 0
    assert run(str(shop), "-S", "IST0101=VirtualService other.shop").exit_code == 1
    assert run(str(shop), "-S", "IST0101", "-S", "KIA1101", "--failure-threshold", "info").exit_code == 1
    (shop / "other.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: other}}")
    assert run(str(shop), "-n", "other").exit_code == 0
    assert run(str(shop), "-n", "shop").exit_code == 1


def test_for_machines(shop: Path) -> None:
    (first, *_) = json.loads(run(str(shop), "--tool", "istioctl", "--json").stdout)
    assert first["code"] == "IST0101" and first["level"] == "Error" and first["origin"] == "VirtualService shop/web"
    assert first["reference"].endswith("deep/web.yaml:28")
    assert first["documentationUrl"] == "https://istio.io/latest/docs/reference/config/analysis/ist0101/"
    assert yaml.safe_load(run(str(shop), "--tool", "istioctl", "-o", "yaml").stdout)[0]["code"] == "IST0101"
    (log,) = json.loads(run(str(shop), "-o", "sarif").stdout)["runs"]
    rules = [one["id"] for one in log["tool"]["driver"]["rules"]]
    for result in log["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"].endswith("deep/web.yaml")
    error = next(one for one in log["results"] if one["ruleId"] == "IST0101")
    assert error["level"] == "error" and error["locations"][0]["physicalLocation"]["region"]["startLine"] == 28


def test_standard_input() -> None:
    done = CliRunner().invoke(main, ["analyze", "--use-kube=false", "-", "--tool", "istioctl"], input=WEB)
    assert done.exit_code == 1 and "standard input:28" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "there must be files"),
        (("nowhere/",), "There is no file 'nowhere/'"),
        (("-A", "-n", "shop", "x"), "either -A or -n"),
        (("{shop}", "-S", "IST9999"), "'IST9999' is no code"),
        (("{shop}/values.yaml",), "There is no Kubernetes object"),
    ],
)
def test_wrong_questions(shop: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run(*(one.replace("{shop}", str(shop)) for one in arguments))
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr


def test_broken_yaml_is_one_error_with_its_line(shop: Path) -> None:
    (shop / "broken.yaml").write_text("a: [1\nb: 2\n")
    done = run(str(shop))
    assert done.exit_code == 2 and "broken.yaml" in done.stderr and "Traceback" not in done.stderr


def test_in_a_notebook(shop: Path) -> None:
    found = analyze_files(str(shop))
    assert found.codes[0] == "IST0101" and len(found.errors) == 2
    assert "<table" in found._repr_html_() and "IST0101" in found._repr_html_()
    assert list(found.table.columns) == ["LEVEL", "CODE", "OBJECT", "MESSAGE"]
    assert repr(found).splitlines()[-1] == f"2 errors, 1 info found when analyzing {shop}."
    assert not analyze_files(str(shop), level="Error", tool="kiali", suppress=["KIA1101"]).messages
    with pytest.raises(InputError, match="is no level"):
        analyze_files(str(shop), level="loud")
    with pytest.raises(InputError, match="is no tool"):
        analyze_files(str(shop), tool="linkerd")


def test_files_answer_too(shop: Path) -> None:
    files = labkit.files(str(shop))
    assert files.analyze().codes == analyze_files(str(shop)).codes
    assert not files.analyze(tool="kiali", level="info").messages[1:]
    with pytest.raises(InputError, match="is no level"):
        files.analyze(level="loud")


def test_a_field_that_the_kind_does_not_have_is_an_error(tmp_path: Path) -> None:
    written = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: a, namespace: b}}\n"
    written += "spec: {{{field}: {{mode: STRICT}}}}\n"
    file = tmp_path / "policy.yaml"
    file.write_text(written.format(field="mtsl"))
    (message,) = analyze_files(file).messages
    assert message.code.code == "IST0106" and 'unknown field "spec.mtsl"' in message.text
    file.write_text(written.format(field="mtls"))
    assert not analyze_files(file).messages


def test_from_is_what_other_commands_call_it(shop: Path) -> None:
    asked = CliRunner().invoke(main, ["analyze", "--from", str(shop)])
    assert (asked.exit_code, asked.output) == (1, run("--use-kube=false", str(shop)).output)


def test_a_namespace_that_is_not_there_is_wrong_input(shop: Path) -> None:
    """Of a name that is wrong nothing is found; that must not look like a good answer."""
    wrong = run("--from", str(shop), "-n", "shp")
    assert (wrong.exit_code, "Did you mean 'shop'?" in wrong.output) == (2, True), wrong.output
    assert run("--from", str(shop), "-n", "shop").exit_code == 1
