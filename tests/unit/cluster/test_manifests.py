"""Reading manifests: what is accepted, and what a learner is told when something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.cluster.manifests import find_path, load_documents, looks_like_path, manifest_files, parse_documents
from labkit.errors import InputError

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: foo\n"


def test_text_with_two_documents_gives_two() -> None:
    documents = load_documents(NAMESPACE + "---\n" + NAMESPACE.replace("foo", "bar"))
    assert [(d.kind, d.name) for d in documents] == [("Namespace", "foo"), ("Namespace", "bar")]


def test_empty_documents_do_not_count() -> None:
    assert len(parse_documents("---\n---\n" + NAMESPACE + "---\n")) == 1


def test_an_object_is_a_document() -> None:
    obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"}}
    assert load_documents(obj)[0].name == "foo"


def test_a_list_of_sources_keeps_its_order(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(NAMESPACE)
    documents = load_documents([file, NAMESPACE.replace("foo", "bar")])
    assert [d.name for d in documents] == ["foo", "bar"]


def test_a_kubernetes_list_is_taken_apart() -> None:
    item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"}}
    assert [d.name for d in load_documents({"apiVersion": "v1", "kind": "List", "items": [item, item]})] == ["foo"] * 2


def test_a_directory_gives_its_yaml_files_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yaml", "Dockerfile"):
        (tmp_path / name).write_text(NAMESPACE)
    assert [file.name for file in manifest_files(tmp_path)] == ["a.yaml", "b.yaml"]


def test_a_directory_without_manifests_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no manifests"):
        manifest_files(tmp_path)


def test_invalid_yaml_names_file_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\n   labels: {}\n")
    with pytest.raises(InputError) as caught:
        load_documents(file)
    assert caught.value.details["line"] == 5
    assert caught.value.details["column"] > 1
    assert "bad.yaml" in caught.value.what
    assert "labels" in caught.value.meaning


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        pytest.param("kind: Pod\nmetadata: {name: x}\n", ("apiVersion",), id="no api version"),
        pytest.param("apiVersion: v1\nmetadata: {name: x}\n", ("kind",), id="no kind"),
        pytest.param("apiVersion: v1\nkind: Pod\n", ("metadata.name",), id="no metadata"),
        pytest.param("apiVersion: v1\nkind: Pod\nmetadata: {name: 7}\n", ("metadata.name",), id="a number as name"),
        pytest.param("a: b\n", ("apiVersion", "kind", "metadata.name"), id="nothing of it"),
    ],
)
def test_a_document_that_lacks_its_identity_is_refused(text: str, missing: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        parse_documents(text)
    assert caught.value.details["missing"] == missing


def test_a_bare_text_is_refused_as_an_object() -> None:
    with pytest.raises(InputError, match="must be a mapping"):
        parse_documents("- one\n- two\n")


def test_a_file_that_is_not_there_says_where_was_looked() -> None:
    with pytest.raises(InputError, match=r"no file 'manifests/nowhere\.yaml'"):
        find_path("manifests/nowhere.yaml")


def test_manifests_are_found_from_the_notebooks_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[3]
    monkeypatch.chdir(root / "notebooks")
    assert find_path("manifests/apps/chat").is_dir()


@pytest.mark.parametrize(
    ("text", "is_path"),
    [
        ("manifests/x.yaml", True),
        ("kind: Pod", False),
        ("a:\n  b", False),
        ("peerauthentication/default", True),
        ("kind:", False),
    ],
)
def test_a_path_is_told_from_yaml(text: str, is_path: bool) -> None:
    assert looks_like_path(text) is is_path


@pytest.mark.parametrize("source", ["", "  \n", "# nothing yet\n"], ids=["nothing", "blanks", "a comment"])
def test_a_text_without_an_object_is_refused_and_never_taken_for_a_directory(source: str) -> None:
    with pytest.raises(InputError, match="no object"):
        load_documents(source)


@pytest.mark.parametrize("source", [5, None, [1]], ids=["a number", "none", "a list of numbers"])
def test_what_cannot_be_a_manifest_is_refused(source: Any) -> None:
    with pytest.raises(InputError, match="cannot be applied"):
        load_documents(source)


def test_an_unfinished_quote_is_shown_where_it_began() -> None:
    with pytest.raises(InputError) as caught:
        load_documents("apiVersion: v1\nkind: 'ConfigMap\nmetadata:\n  name: x\n")
    assert caught.value.details["line"] == 2


def test_a_wrong_line_without_end_is_shown_in_part() -> None:
    with pytest.raises(InputError) as caught:
        parse_documents("a: " + "b: " * 1000)
    assert len(caught.value.meaning) < 200
