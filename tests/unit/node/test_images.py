from __future__ import annotations

from pathlib import Path

import pytest

from labkit.embedded.node.environment import ContainerConfigError
from labkit.embedded.node.images import CATALOGUE, Image, command_of, find_image, read_user_images, repository_of
from labkit.errors import InputError


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("chatbackend", "chatbackend"),
        ("chatbackend:1.0", "chatbackend"),
        ("myregistry.azurecr.io/chatbackend:latest", "chatbackend"),
        ("localhost:5000/team/chatfrontend", "chatfrontend"),
        ("docker.io/curlimages/curl", "curlimages/curl"),
        ("curlimages/curl:8.9.1@sha256:" + "0" * 64, "curlimages/curl"),
        ("docker.io/istio/proxyv2:1.24.0", "istio/proxyv2"),
        ("mcr.microsoft.com/oss/istio/pilot:1.24-distroless", "istio/pilot"),
        ("docker.io/library/busybox", "busybox"),
        ("registry.k8s.io/pause:3.10", "pause"),
    ],
)
def test_the_last_components_of_a_reference_find_the_image(reference: str, name: str):
    assert find_image(reference).name == name


@pytest.mark.parametrize("reference", ["nginx", "chatbackend2", "mychatbackend", "chatbackend/extra"])
def test_an_unknown_image_says_which_exist_and_how_to_add_one(reference: str):
    with pytest.raises(ContainerConfigError) as raised:
        find_image(reference)
    assert raised.value.reason == "ErrImagePull"
    assert "curlimages/curl" in raised.value.what and "images.yaml" in raised.value.what


@pytest.mark.parametrize(
    "reference", ["", "Chatbackend", ".azurecr.io/chatbackend", "a b", "chat:", "$X.io/chat:latest"]
)
def test_what_is_no_reference_is_an_invalid_image_name(reference: str):
    with pytest.raises(ContainerConfigError) as raised:
        repository_of(reference)
    assert raised.value.reason == "InvalidImageName"


def test_a_namespace_that_looks_like_no_host_belongs_to_the_path():
    assert repository_of("istio/pilot:1") == "istio/pilot"
    assert repository_of("registry.io/istio/pilot") == "istio/pilot"


def test_the_longest_match_wins_and_the_first_among_equals():
    general, special, later = Image(("app",), ""), Image(("team/app",), ""), Image(("app",), "")
    assert find_image("r.io/team/app", [general, special]) is special
    assert find_image("r.io/other/app", [general, special, later]) is general


IMAGE = Image(("i",), "", command=("serve",), args=("--port", "80"))


@pytest.mark.parametrize(
    ("container", "argv"),
    [
        pytest.param({}, ["serve", "--port", "80"], id="the-images-own"),
        pytest.param({"args": ["--port", "81"]}, ["serve", "--port", "81"], id="args-replace-args"),
        pytest.param({"command": ["sleep"]}, ["sleep"], id="command-replaces-both"),
        pytest.param({"command": ["sleep"], "args": ["1"]}, ["sleep", "1"], id="command-and-args"),
    ],
)
def test_command_and_args(container: dict[str, list[str]], argv: list[str]):
    assert command_of(container, IMAGE) == argv


def test_an_image_without_a_command_needs_one():
    with pytest.raises(ContainerConfigError, match="no command specified"):
        command_of({}, Image(("empty",), ""))


def test_users_add_images_in_a_file(tmp_path: Path):
    file = tmp_path / "images.yaml"
    assert read_user_images(file) == ()
    file.write_text("team/hello: {command: [python, hello.py], args: ['1'], description: says hello}\n")
    [image] = read_user_images(file)
    assert find_image("r.io/team/hello:2", [image, *CATALOGUE]) is image
    assert command_of({}, image) == ["python", "hello.py", "1"]


@pytest.mark.parametrize("text", ["[", "- a", "x: {}", "x: {command: python}", "'A b': {command: [a]}"])
def test_a_malformed_file_is_one_clear_error(tmp_path: Path, text: str):
    file = tmp_path / "images.yaml"
    file.write_text(text)
    with pytest.raises(InputError):
        read_user_images(file)


def test_names_in_the_catalogue_are_unique():
    paths = [path for image in CATALOGUE for path in image.paths]
    assert len(paths) == len(set(paths))
