"""Directories of manifests: what is read, what is passed over and named, and where each object stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.cluster.trees import Tree, read_tree
from labkit.errors import InputError

POLICY = """\
# who may call
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: foo}
---
apiVersion: v1
kind: Namespace
metadata: {name: foo}
"""


def written(path: Path, **files: str) -> Tree:
    for name, text in files.items():
        file = path / name.replace("__", "/").replace("_yaml", ".yaml").replace("_json", ".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return read_tree([path])


def test_all_documents_at_any_depth_with_their_lines(tmp_path: Path) -> None:
    tree = written(
        tmp_path, a__b__policy_yaml=POLICY, c_json='{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}'
    )
    assert [one["kind"] for one in tree.objects] == ["PeerAuthentication", "Namespace", "Service"]
    path, line = tree.at(("PeerAuthentication", "foo", "default")) or ("", 0)
    assert (path.endswith("a/b/policy.yaml"), line) == (True, 2)
    assert (tree.at(("Namespace", "", "foo")) or ("", 0))[1] == 6
    assert (tree.at(("Service", "default", "x")) or ("", 0))[1] == 1
    assert tree.at(("Service", "default", "y")) is None


def test_hidden_files_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        written(tmp_path, **{".git__x_yaml": POLICY})


def test_what_is_no_object_is_passed_over_and_named(tmp_path: Path) -> None:
    tree = written(
        tmp_path,
        a_yaml=POLICY,
        values_yaml="replicas: 3",
        list_yaml="- a\n- b",
        kustomization_yaml="kind: Kustomization\napiVersion: kustomize.config.k8s.io/v1beta1\nresources: [a.yaml]",
        empty_yaml="# nothing\n---\n",
    )
    assert len(tree.objects) == 2
    words = " ".join(tree.skipped)
    assert len(tree.skipped) == 3
    assert "kustomization.yaml:1 (no metadata.name)" in words
    assert "list.yaml:1 (a list, and no mapping)" in words
    assert "values.yaml:1 (no apiVersion and kind)" in words


def test_lists_are_opened(tmp_path: Path) -> None:
    tree = written(
        tmp_path,
        list_yaml="apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n",
        typed_yaml="apiVersion: security.istio.io/v1\nkind: PeerAuthenticationList\nitems:\n- metadata: {name: b}\n",
    )
    assert [one["kind"] for one in tree.objects] == ["Service", "PeerAuthentication"]
    assert (tree.at(("Service", "default", "a")) or ("", 0))[1] == 4


def test_one_object_in_two_files_is_said(tmp_path: Path) -> None:
    tree = written(tmp_path, a_yaml=POLICY, b_yaml=POLICY)
    assert len(tree.notes) == 2
    assert "a.yaml:2 and in" in tree.notes[0]
    assert written(tmp_path / "other", a_yaml=POLICY).notes == []


def test_a_namespace_for_what_names_none(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: a}\n")
    assert read_tree([tmp_path], "shop").at(("Service", "shop", "a"))
    assert read_tree([tmp_path]).at(("Service", "shop", "a")) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("a: [1,\nb", "line 2", id="YAML that does not end"),
        pytest.param("kind: {{ .Values.kind }}\n{{- if x }}", "template of Helm", id="a template"),
        pytest.param("a: 1", "There is no Kubernetes object", id="no object at all"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        written(tmp_path, x_yaml=text)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        read_tree([tmp_path])
