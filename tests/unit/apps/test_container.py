"""The applications as they run in a real container: alone with the standard library, laid out by the Dockerfile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.apps.run import SERVICES

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "manifests" / "apps" / "chat" / "Dockerfile").read_text()
STAGES = DOCKERFILE.partition("\n\n")[2]
PROGRAMS = dict(re.findall(r'AS (\w+)\n(?:.*\n)*?CMD \["python", "([^"]+)"\]', STAGES))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The file system that the Dockerfile makes, below a temporary directory."""
    (source, target) = re.search(r"^COPY (\S+) (\S+)$", DOCKERFILE, re.MULTILINE).groups()
    shutil.copytree(ROOT / source, tmp_path / target.lstrip("/"), ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run_alone(image: Path, program: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Start a program with nothing of this environment: -S leaves out every installed package."""
    command = [sys.executable, "-S", str(image / program.lstrip("/"))]
    settings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(image / "srv"), "HOST": "127.0.0.1"} | env
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=10, check=False)


def test_both_applications_are_targets_of_the_dockerfile():
    assert set(PROGRAMS) == {"chatbackend", "chatfrontend"}


@pytest.mark.parametrize("target", sorted(PROGRAMS))
def test_a_program_needs_nothing_but_the_image_and_the_standard_library(image: Path, target: str):
    # A port that nobody may have: the program comes as far as listening, and says so.
    result = run_alone(image, PROGRAMS[target], PORT="1", HOST="192.0.2.1")
    assert result.stderr == f"{target}: cannot listen on 192.0.2.1:1: Cannot assign requested address\n"


def test_a_program_without_the_rest_of_its_image_does_not_run(image: Path):
    (image / "srv" / "labkit" / "apps" / "webapp.py").unlink()
    assert "No module named 'labkit.apps.webapp'" in run_alone(image, PROGRAMS["chatbackend"]).stderr


@pytest.mark.parametrize("manifest", ["chatbackend.yaml", "chatfrontend.yaml"])
def test_the_deployments_image_is_a_target_and_its_port_the_exposed_one(manifest: str):
    text = (ROOT / "manifests" / "apps" / "chat" / manifest).read_text()
    image = re.search(r"image: (\w+):", text)[1]
    stage = DOCKERFILE[DOCKERFILE.index(f"AS {image}\n") :]
    assert image in PROGRAMS
    assert re.search(r"EXPOSE (\d+)", stage)[1] == re.search(r"containerPort: (\d+)", text)[1]


EVERYTHING = (ROOT / "manifests" / "apps" / "Dockerfile").read_text()


def test_the_image_of_all_services_is_laid_out_as_the_two_of_the_chat(image: Path):
    copied = re.search(r"^COPY .*$", DOCKERFILE, re.MULTILINE)[0]
    assert copied in EVERYTHING.splitlines()
    program = re.search(r'^ENTRYPOINT \["python", "([^"]+)"\]$', EVERYTHING, re.MULTILINE)[1]
    result = run_alone(image, program)
    assert result.stderr.startswith("run: name one service: sentences, ")


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "load"])
def test_every_service_of_the_image_needs_nothing_but_the_standard_library(image: Path, service: str):
    command = [sys.executable, "-S", str(image / "srv/labkit/apps/run.py"), service]
    settings = {"PYTHONPATH": str(image / "srv"), "HOST": "192.0.2.1", "PORT": "1"}
    result = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=10, check=False)
    assert "Cannot assign requested address" in result.stderr
