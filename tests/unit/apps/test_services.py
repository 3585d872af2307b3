"""The services of the labs: each started by the program of the one image, and calling each other over real HTTP."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from labkit.apps import load
from labkit.apps.run import SERVICES
from labkit.embedded.node.images import find_image
from tests.unit.apps.conftest import APPS, App, free_port

ROOT = Path(__file__).parents[3]
START = Callable[..., App]


@pytest.fixture
def service(start_app: START) -> START:
    """Start a service by its name, as a container of the image does."""
    return lambda name, **env: start_app("run.py", name, **env)


class TestSentences:
    def test_a_sentence_is_made_of_a_name_and_an_age(self, service: START):
        name, age = service("name", VERSION="v1"), service("age")
        app = service("sentences", NAME_URL=f"{base(name)}/", AGE_URL=f"{base(age)}/")
        status, _, text = app.request("GET", "/")
        assert status == 200
        assert re.fullmatch(r"\w+ is \d+ years old\.\n", text)

    def test_version_2_knows_whole_names(self, service: START):
        assert re.fullmatch(r"\w+\n", service("name", VERSION="v1").request("GET", "/")[2])
        assert re.fullmatch(r"\w+ \w+\n", service("name", VERSION="v2").request("GET", "/")[2])

    def test_without_an_age_it_says_who_cannot_be_reached_and_why(self, service: START):
        name = service("name")
        app = service("sentences", NAME_URL=f"{base(name)}/", AGE_URL=f"http://127.0.0.1:{free_port()}/")
        status, _, answer = app.request("GET", "/")
        assert (status, answer["error"]) == (502, "age cannot be reached.")
        assert answer["detail"].startswith("ECONNREFUSED")

    def test_it_is_ready_although_nobody_answers_it(self, service: START):
        app = service("sentences", NAME_URL="http://127.0.0.1:1/", AGE_URL="http://127.0.0.1:1/")
        assert app.request("GET", "/healthz")[0] == 200

    def test_the_headers_of_a_trace_are_handed_on_and_no_others(self, service: START):
        echo = service("echoserver")
        app = service("sentences", NAME_URL=f"{base(echo)}/", AGE_URL=f"{base(echo)}/")
        answer = app.request("GET", "/", **{"x-request-id": "17", "authorization": "secret"})[2]
        assert "x-request-id: 17" in answer
        assert "secret" not in answer


class TestCustomers:
    def test_the_page_shows_the_customers(self, service: START):
        page = service("web-frontend", CUSTOMERS_URL=f"{base(service('customers'))}/").request("GET", "/")
        assert page[0] == 200 and page[1].startswith("text/html")
        assert "Mill Lane Bakery" in page[2] and "Ljubljana" not in page[2]

    def test_version_2_knows_where_they_live(self, service: START):
        customers = service("customers", VERSION="v2")
        assert "Ljubljana" in service("web-frontend", CUSTOMERS_URL=f"{base(customers)}/").request("GET", "/")[2]

    def test_a_reset_connection_is_named_as_the_system_call_names_it(self, service: START):
        with Resetting() as server:
            status, kind, page = service("web-frontend", CUSTOMERS_URL=server.url).request("GET", "/")
        assert (status, kind.partition(";")[0]) == (502, "text/html")
        assert "ECONNRESET" in page


class TestWorkshop:
    @pytest.mark.parametrize(("version", "vendors"), [("v1", 1), ("v2", 2)])
    def test_the_page_says_which_version_answered(self, service: START, version: str, vendors: int):
        detail = service("catalogdetail", VERSION=version)
        catalog = service("productcatalog", DETAIL_URL=f"{base(detail)}/catalogDetail")
        assert len(catalog.request("GET", "/products")[2]["details"]["vendors"]) == vendors
        page = service("frontend", CATALOG_URL=f"{base(catalog)}/products").request("GET", "/")[2]
        assert f"(catalogdetail {version})" in page and "Compass" in page


class TestOthers:
    def test_the_echo_says_what_it_was_asked_on_any_path(self, service: START):
        status, _, text = service("echoserver").request("POST", "/a/b?c=d", b"hello", **{"X-Colour": "blue"})
        assert status == 200
        for words in ("method: POST", "path: /a/b?c=d", "x-colour: blue", "hello"):
            assert words in text

    def test_visits_are_counted_on_a_second_port(self, service: START):
        metrics = free_port()
        app = service("visits", METRICS_PORT=str(metrics))
        app.request("GET", "/")
        assert app.request("GET", "/")[2] == "You are visitor 2.\n"
        assert app.request("GET", "/metrics")[0] == 404
        app.port = metrics
        assert "visits_total 2\n" in app.request("GET", "/metrics")[2]

    def test_the_greeter_speaks_first(self, service: START):
        app = service("greeter")
        with socket.create_connection(("127.0.0.1", app.port), timeout=5) as caller, caller.makefile("rwb") as lines:
            assert lines.readline().startswith(b"220 ")
            lines.write(b"hello\r\nQUIT\r\n")
            lines.flush()
            assert lines.readline() == b"250 you said 'hello'\r\n"
            assert lines.readline().startswith(b"221 ")

    def test_the_greeter_waits_for_nobody_else(self, service: START):
        app = service("greeter")
        with socket.create_connection(("127.0.0.1", app.port), timeout=5) as silent:
            with socket.create_connection(("127.0.0.1", app.port), timeout=5) as second:
                assert second.recv(4) == b"220 "
            assert silent.recv(4) == b"220 "

    def test_load_prints_a_line_for_each_answer(self, service: START):
        echo = service("echoserver")
        assert load.send(f"{base(echo)}/x", "shop.example").startswith(f"200 {base(echo)}/x Hostname:")
        assert "ECONNREFUSED" in load.send(f"http://127.0.0.1:{free_port()}/")
        assert load.targets("http://a/\n\n http://b/ c.example \n") == [("http://a/", ""), ("http://b/", "c.example")]

    @pytest.mark.parametrize("arguments", [[], ["nobody"], ["age", "name"]])
    def test_a_service_that_is_not_there_is_refused_with_a_list(self, arguments: list[str]):
        result = subprocess.run(
            [sys.executable, APPS / "run.py", *arguments], capture_output=True, text=True, timeout=10
        )
        assert result.returncode == 1
        assert "name one service: sentences" in result.stderr


class TestManifests:
    DOCUMENTS = tuple(
        (path, document)
        for path in sorted((ROOT / "manifests" / "apps").rglob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    )

    def containers(self) -> list[tuple[Path, Any]]:
        found = [
            (path, d["spec"]["template"]["spec"]["containers"])
            for path, d in self.DOCUMENTS
            if "template" in d.get("spec", {})
        ]
        return [(path, container) for path, containers in found for container in containers]

    def test_every_image_is_in_the_catalogue_and_every_service_in_the_image(self):
        for path, container in self.containers():
            image = find_image(container["image"])
            if image.name == "mtlslab/apps":
                assert container["args"][0] in SERVICES, path

    def test_a_container_names_the_port_that_its_program_listens_on(self):
        for path, container in self.containers():
            if container["image"].startswith("mtlslab/") and (port := SERVICES[container["args"][0]][2]):
                assert container["ports"][0]["containerPort"] == port, path

    @pytest.mark.parametrize("app", ["sentences", "customers"])
    def test_the_two_forms_differ_in_the_label_that_keeps_sidecars_away(self, app: str):
        for plain in sorted((ROOT / "manifests" / "apps" / app / "plain").glob("*.yaml")):
            lines = plain.read_text().splitlines()
            kept = [line for line in lines if "sidecar.istio.io/inject" not in line and not line.startswith("#")]
            other = (plain.parents[1] / "sidecar" / plain.name).read_text().splitlines()
            assert kept == [line for line in other if not line.startswith("#")]
            deployments = sum(line == "kind: Deployment" for line in lines)
            assert sum("sidecar.istio.io/inject" in line for line in lines) == deployments

    def test_every_service_selects_pods_and_a_port_that_they_have(self):
        pods = [d["spec"]["template"] for _, d in self.DOCUMENTS if d["kind"] == "Deployment"]
        for path, document in self.DOCUMENTS:
            if document["kind"] == "Service":
                selector = document["spec"]["selector"].items()
                chosen = [pod for pod in pods if selector <= pod["metadata"]["labels"].items()]
                ports = {p["containerPort"] for pod in chosen for c in pod["spec"]["containers"] for p in c["ports"]}
                assert {p["targetPort"] for p in document["spec"]["ports"]} <= ports, path


def base(app: App) -> str:
    return f"http://127.0.0.1:{app.port}"


class Resetting:
    """A server that resets each connection once it has read something, as a STRICT sidecar does with plaintext."""

    def __enter__(self) -> Resetting:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self) -> None:
        connection, _ = self.listener.accept()
        connection.recv(1)  # what is left unread makes the close a reset
        connection.close()

    def __exit__(self, *_: object) -> None:
        self.thread.join()
        self.listener.close()
