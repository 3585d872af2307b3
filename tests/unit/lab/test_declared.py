"""The declared questions on files, in Python and from a shell: results, exit codes, and what is said of wrong input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import labkit
from labkit.cli import main
from labkit.errors import InputError
from tests.unit.policy.declared.objects import CLIENT, WEB, WORLD, app, istio, peers


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A directory of manifests: two with sidecars, one without."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "all.yaml").write_text(yaml.safe_dump_all(WORLD))
    (tmp_path / "safe").mkdir()
    (tmp_path / "safe" / "all.yaml").write_text(yaml.safe_dump_all([*WEB, *CLIENT]))
    (tmp_path / "strict.yaml").write_text(yaml.safe_dump(peers("STRICT")))
    return tmp_path


def run(*words: str, **more: Any) -> Result:
    return CliRunner().invoke(main, list(words), **more)


def test_in_python(shop: Path) -> None:
    files = labkit.files(shop / "shop")
    found = files.explain("foo/client", "foo/web", 8080)
    assert str(found).startswith("foo/client -> foo/web:8080 (http, http is sent)\n  mTLS: the caller sees HTTP 200")
    assert "istio.io" in found._repr_html_() and "AUTO" not in found._repr_html_()
    assert list(found.frame.columns) == ["SIDE", "OBJECT", "WHAT IT DOES HERE", "THE RULE", "PAGE"]
    assert len(files.explain_all()) == 6
    assert len(files.explain_all(only="mTLS")) == 2
    assert len(files.explain_all("bar")) == 4
    assert not files.preview(shop / "strict.yaml").safe
    assert "breaks something" in files.preview(shop / "strict.yaml")._repr_html_()
    assert not files.verify().passed
    assert files.verify(exempt="bar/*").passed
    assert files.migrate().plan.steps
    assert "NAMESPACE" in str(files.migrate()) and "<table" in files.migrate()._repr_html_()
    assert repr(files) == "Files(6 objects, 3 workloads, 3 ports to call)"


def test_a_page_shows_as_many_calls_as_one_can_read(tmp_path: Path) -> None:
    many = [one for number in range(16) for one in app("foo", f"app-{number}")]
    (tmp_path / "many.yaml").write_text(yaml.safe_dump_all(many))
    table = labkit.files(tmp_path).explain_all()
    assert len(table) == 240
    assert len(repr(table).splitlines()) == 202
    assert repr(table).endswith("240 calls: 240 mTLS. The first 200 are shown.")
    assert table._repr_html_().count("<tr") == 201
    shown = run("explain", "--all", "--from", str(tmp_path)).stdout.splitlines()
    assert (len(shown), shown[-1]) == (242, "240 calls: 240 mTLS.")
    few = labkit.files(tmp_path).explain_all(only="plaintext")
    assert (len(few), repr(few)) == (0, "No such edge.")


def test_a_change_may_be_an_object_or_yaml_text(shop: Path) -> None:
    files = labkit.files(shop / "shop")
    assert not files.preview(peers("STRICT")).safe
    assert not files.preview(yaml.safe_dump(peers("STRICT"))).safe
    assert files.preview(peers("STRICT"), delete=True).safe
    assert files.preview(delete="service/web", namespace="foo").breaking
    assert not files.preview(delete="pa/default", namespace="foo").preview.changes
    with pytest.raises(InputError, match="no change"):
        files.preview()


def test_explain(shop: Path) -> None:
    found = run("explain", "foo/client", "foo/web", "8080", "--from", str(shop / "shop"), "--json")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["verdict"] == "mTLS"
    by_url = run("explain", "bar/naked", "http://web.foo:8080/x", "--from", str(shop / "shop"))
    assert "plaintext: the caller sees HTTP 200" in by_url.stdout
    everything = run("explain", "--all", "--only", "plaintext", "--from", str(shop / "shop"), "--json")
    assert len(json.loads(everything.stdout)) == 4


def test_standard_input(shop: Path) -> None:
    text = (shop / "shop" / "all.yaml").read_text()
    assert run("explain", "foo/client", "web", "8080", "--from", "-", input=text).exit_code == 0


def test_preview_fails_when_a_client_breaks(shop: Path) -> None:
    unsafe = run("preview", "-f", str(shop / "strict.yaml"), "--from", str(shop / "shop"))
    assert unsafe.exit_code == 1
    assert "bar/naked would no longer reach foo/client:8080, foo/web:8080" in unsafe.stdout
    safe = run("preview", "-f", str(shop / "strict.yaml"), "--from", str(shop / "safe"))
    assert safe.exit_code == 0
    deleted = run("preview", "--delete", str(shop / "strict.yaml"), "--from", str(shop))
    assert (deleted.exit_code, "start to work" in deleted.stdout) == (0, True)


def test_preview_counts_observed_traffic(shop: Path) -> None:
    seen = shop / "seen.json"
    seen.write_text('{"bar/naked -> foo/web:8080": 90}')
    words = ("preview", "-f", str(shop / "strict.yaml"), "--from", str(shop / "shop"), "--traffic", str(seen))
    assert "90 requests per minute would be refused" in run(*words).stdout
    assert json.loads(run(*words, "--format", "json").stdout)["refused_per_minute"] == 90
    assert json.loads(run(*words, "--json").stdout)["safe"] is False
    both = run(*words, "--observed")
    assert (both.exit_code, "one source of traffic" in both.stderr) == (2, True)


def test_preview_as_sarif_points_into_the_change(shop: Path) -> None:
    words = ("preview", "-f", str(shop / "strict.yaml"), "--from", str(shop / "shop"), "--format", "sarif")
    (result, *_) = json.loads(run(*words).stdout)["runs"][0]["results"]
    assert result["ruleId"] == "mtls/breaks"
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].endswith("strict.yaml")


def test_verify(shop: Path, tmp_path: Path) -> None:
    bad = run("verify", "--from", str(shop / "shop"))
    assert (bad.exit_code, "bar/naked sends plaintext" in bad.stdout) == (1, True)
    assert run("verify", "--from", str(shop / "safe")).exit_code == 0
    assert run("verify", "--from", str(shop / "shop"), "--exempt", "bar/*").exit_code == 0
    assert run("verify", "--from", str(shop / "shop"), "--forbid", "refused").exit_code == 0
    report = tmp_path / "report.xml"
    assert run("verify", "--from", str(shop / "shop"), "--format", "junit", "-o", str(report)).exit_code == 1
    assert report.read_text().startswith("<?xml")


def test_verify_expectations(shop: Path) -> None:
    wanted = shop / "wanted.yaml"
    wanted.write_text("- {client: foo/client, server: foo/web, port: 8080, verdict: mTLS}\n")
    words = ("verify", "--from", str(shop / "shop"), "--forbid", "none", "--expect", str(wanted))
    assert run(*words).exit_code == 0
    wanted.write_text("- {client: bar/naked, server: foo/web, port: 8080, verdict: mTLS}\n")
    assert run(*words).exit_code == 1


def test_migrate(shop: Path, tmp_path: Path) -> None:
    done = run("migrate", "--from", str(shop / "safe"), "--write", str(tmp_path / "steps"))
    assert done.exit_code == 0
    names = sorted(file.name for file in (tmp_path / "steps").iterdir())
    assert names == ["01-strict-now.yaml", "02-strict-for-the-mesh.yaml"]
    (policy,) = yaml.safe_load_all((tmp_path / "steps" / names[0]).read_text())
    assert policy["spec"]["mtls"]["mode"] == "STRICT"
    again = ("migrate", "--from", str(shop / "safe"), "--write", str(tmp_path / "steps"))
    assert run(*again).exit_code == 0
    (tmp_path / "steps" / "07-inject.yaml").touch()
    (tmp_path / "steps" / names[0]).unlink()
    mixed = run(*again)
    assert (mixed.exit_code, "another plan: 07-inject.yaml" in mixed.stderr) == (2, True)
    assert not (tmp_path / "steps" / names[0]).exists()
    held = run("migrate", "--from", str(shop / "shop"), "--json")
    assert held.exit_code == 1
    assert [one["act"] for one in json.loads(held.stdout)["steps"]] == ["hold back", "hold back"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explain"], "A call has a client and a server"),
        (["explain", "foo/client"], "A call has a client and a server"),
        (["explain", "--all", "foo/client", "foo/web"], "A call has a client and a server"),
        (["explain", "foo/none", "foo/web"], "There is no workload"),
        (["explain", "foo/client", "foo/web", "81"], "has no port 81"),
        (["explain", "foo/client", "foo/web", "99999"], "is no port"),
        (["explain", "foo/client", "foo/web", "htp"], "Did you mean 'http'? Its ports: http (8080)."),
        (["explain", "foo/client", "foo/none", "http"], "There is no Service, host or workload 'foo/none'"),
        (["explain", "foo/client", "http://web:x/"], "is not a URL"),
        (["explain", "--all", "--only", "good"], "is no verdict"),
        (["explain", "--all", "-n", "nowhere"], "nothing in a namespace"),
        (["preview"], "no change"),
        (["preview", "-f", "none.yaml"], "no file"),
        (["preview", "--delete", "thing/x"], "is no kind"),
        (["verify", "--forbid", "bad"], "is no verdict"),
    ],
)
def test_wrong_words_are_answered_with_what_to_do(shop: Path, words: list[str], said: str) -> None:
    found = run(*words, "--from", str(shop / "shop"))
    assert found.exit_code == 2
    assert said in found.stderr and "What to do" in found.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "Invalid YAML"),
        ("- a\n", "There is no Kubernetes object"),
        ("x: 1\n", "There is no Kubernetes object"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: text\n", "cannot be read"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: x}]}\n", "cannot be read"),
        (
            "apiVersion: x/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: strict}}\n",
            "PeerAuthentication default/a",
        ),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    found = run("explain", "--all", "--from", str(tmp_path))
    assert found.exit_code == 2
    assert said in found.stderr and "wrong.yaml" in found.stderr


def test_an_empty_directory(tmp_path: Path) -> None:
    assert "There is no Kubernetes object" in run("verify", "--from", str(tmp_path)).stderr


def test_the_meshs_settings_come_from_its_config_map() -> None:
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "mesh-system"},
        "data": {"mesh": "enableAutoMtls: false\n"},
    }
    from labkit.observe.declared_mesh import make_declared_mesh

    mesh = make_declared_mesh([*WORLD, settings])
    assert (mesh.settings.auto_mtls, mesh.settings.root_namespace) == (False, "mesh-system")
    assert make_declared_mesh([*WORLD]).settings.auto_mtls
    assert make_declared_mesh([*app("a", "b")], "root").settings.root_namespace == "root"


NOTHING = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}


def test_files_in_which_nobody_calls_are_said_to_be_so(shop: Path) -> None:
    empty = shop / "empty.yaml"
    empty.write_text(yaml.safe_dump(NOTHING))
    for words in (("verify",), ("explain", "--all"), ("preview", "-f", str(shop / "strict.yaml"))):
        found = run(*words, "--from", str(empty))
        assert (found.exit_code, "There are no calls to look at" in found.stdout) == (0, True), words
        assert "safe" not in found.stdout
    plan = run("migrate", "--from", str(empty)).stdout
    assert plan.startswith("1 step to STRICT") and "No resources found" not in plan
    assert "There are no calls" not in run("verify", "--from", str(shop / "safe")).stdout


def test_a_mode_without_a_policy_is_set_by_no_object(shop: Path) -> None:
    words = ("explain", "foo/client", "foo/web", "8080", "--from", str(shop / "safe"))
    assert "set by  no object: the mode without a policy" in run(*words).stdout
    (shop / "safe" / "strict.yaml").write_text(yaml.safe_dump(peers("STRICT")))
    found = run(*words).stdout
    assert "set by  PeerAuthentication foo/" in found and "the mode without a policy" not in found


def test_a_field_that_its_kind_does_not_have_is_named(shop: Path) -> None:
    typed = {**peers("STRICT"), "spec": {"mtsl": {"mode": "STRICT"}}}
    (shop / "safe" / "typed.yaml").write_text(yaml.safe_dump(typed))
    told = run("verify", "--from", str(shop / "safe")).stderr
    assert "has the field spec.mtsl, which PeerAuthentication does not have" in told and "typed.yaml" in told
    (shop / "safe" / "typed.yaml").write_text(yaml.safe_dump(peers("STRICT")))
    assert "does not have" not in run("verify", "--from", str(shop / "safe")).stderr
    (shop / "typed.yaml").write_text(yaml.safe_dump(typed))
    seen = run("preview", "-f", str(shop / "typed.yaml"), "--from", str(shop / "safe")).stdout
    assert "spec.mtsl" in seen
    assert "spec." not in run("preview", "-f", str(shop / "strict.yaml"), "--from", str(shop / "safe")).stdout


def test_a_kind_that_istio_does_not_have_is_no_safe_change(shop: Path) -> None:
    wrong = shop / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({**peers("STRICT"), "kind": "PeerAuthentification"}))
    told = run("preview", "--from", str(shop / "safe"), "-f", str(wrong))
    assert told.exit_code == 1
    assert told.output.splitlines()[0] == "The change would be refused"
    assert "Did you mean the kind PeerAuthentication of security.istio.io?" in told.output
    assert "has no kind PeerAuthentification" in run("verify", "--from", str(wrong)).output
    analyzed = run("analyze", "--use-kube=false", str(wrong))
    assert (analyzed.exit_code, "IST0106" in analyzed.output) == (1, True)
    right = run("preview", "--from", str(shop / "safe"), "-f", str(shop / "strict.yaml"))
    assert (right.exit_code, "no kind" in right.output) == (0, False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("foo/wab", "Did you mean 'foo/web'?"),
        ("fo/*", "Did you mean 'foo/*'?"),
        ("foo/elsewhere", "Here: foo/client, foo/web"),
        ("elsewhere/*", "Here: foo/client, foo/web"),
    ],
)
def test_to_restart_what_is_not_there_is_wrong_input(shop: Path, name: str, words: str) -> None:
    told = run("preview", "--from", str(shop / "safe"), "--restart", name)
    assert (told.exit_code, words in told.output) == (2, True), told.output
    assert run("preview", "--from", str(shop / "safe"), "--restart", "foo/web").exit_code == 0


def test_a_port_may_be_named(shop: Path, tmp_path: Path) -> None:
    files = ("--from", str(shop / "shop"))
    by_number = run("explain", "foo/client", "foo/web", "8080", *files)
    by_name = run("explain", "foo/client", "foo/web", "http", *files)
    assert (by_number.exit_code, by_name.exit_code, by_name.output) == (0, 0, by_number.output)
    entry = istio("ServiceEntry", "foo", "out", hosts=["api.example.com"], ports=[{"number": 443, "name": "tls"}])
    (tmp_path / "entry.yaml").write_text(yaml.safe_dump(entry))
    outside = run("explain", "foo/client", "api.example.com", "tls", *files, "--from", str(tmp_path / "entry.yaml"))
    assert outside.stdout.startswith("foo/client -> api.example.com:443")
