"""What becomes of Prometheus' configuration and command line in a pod here, and what is discovered in its place."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from labkit.embedded.addresses import listen_port
from labkit.embedded.node import prometheus_discovery as discovery
from labkit.embedded.node import prometheus_reload as reloader
from labkit.embedded.node import prometheus_start as start
from labkit.embedded.node.images import find_image

Object = dict[str, Any]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def pod(tmp_path: Path) -> start.Pod:
    hosts = {"own": "127.70.8.1", "names": {"istiod.istio-system": "127.70.0.10"}}
    (tmp_path / "hosts.json").write_text(json.dumps(hosts))
    account = tmp_path / start.ACCOUNT.lstrip("/")
    account.mkdir(parents=True)
    (account / "token").write_text("t")
    (account / "ca.crt").write_text("c")
    cluster = {"certificate-authority-data": base64.b64encode(b"authority").decode()}
    kubeconfig = {"clusters": [{"cluster": cluster}], "users": [{"user": {"token": "the node's"}}]}
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    return start.Pod(
        {
            "POD_ROOT": str(tmp_path),
            "POD_HOSTS": str(tmp_path / "hosts.json"),
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
            "KUBERNETES_SERVICE_HOST": "127.70.0.1",
            "KUBERNETES_SERVICE_PORT": "6443",
        }
    )


def relabelled(rules: list[Object], labels: dict[str, str]) -> dict[str, str]:
    """Prometheus' `replace` rules, as its documentation says them."""
    labels = dict(labels)
    for rule in rules:
        source = ";".join(labels.get(name, "") for name in rule["source_labels"])
        match = re.fullmatch(rule.get("regex", "(.*)"), source)
        if match:
            labels[rule["target_label"]] = match.expand(re.sub(r"\$(\d)", r"\\g<\1>", rule.get("replacement", "$1")))
    return labels


@pytest.mark.parametrize("port", [1, 9, 10, 80, 99, 100, 443, 999, 1000, 1019, 1023, 1024, 5000, 10080, 15020, 20080])
def test_ports_are_asked_for_where_they_are(pod: start.Pod, port: int) -> None:
    rules = start.adapted({"scrape_configs": [{"job_name": "a"}]}, pod)["scrape_configs"][0]["relabel_configs"]
    found = relabelled(rules, {"__address__": f"127.70.3.1:{port}"})
    assert found["__address__"] == f"127.70.3.1:{listen_port(port)}"
    assert found["instance"] == f"127.70.3.1:{port}"
    assert relabelled(rules, {"__address__": "127.70.3.1:80", "instance": "mine"})["instance"] == "mine"
    assert relabelled(rules, {"__address__": "kubernetes.default.svc:443"})["__address__"] == "127.70.0.1:6443"


def test_the_api_server_is_asked_with_the_mounted_account(pod: start.Pod) -> None:
    config = {"scrape_configs": [{"job_name": "a", "kubernetes_sd_configs": [{"role": "pod"}]}]}
    [found] = start.adapted(config, pod)["scrape_configs"][0]["kubernetes_sd_configs"]
    assert found["api_server"] == "https://127.70.0.1:6443" and found["role"] == "pod"
    assert Path(found["authorization"]["credentials_file"]).read_text() == "t"
    assert Path(found["tls_config"]["ca_file"]).read_text() == "c"


def test_an_account_is_mounted_where_the_manifest_mounts_none(pod: start.Pod) -> None:
    token = pod.root / start.ACCOUNT.lstrip("/") / "token"
    token.unlink()
    found = pod.account()
    assert found["authorization"]["credentials_file"] == str(token) and token.read_text() == "the node's"
    assert Path(found["tls_config"]["ca_file"]).read_text() == "authority"
    assert token.stat().st_mode & 0o777 == 0o600


def test_an_api_server_of_the_manifests_own_stays(pod: start.Pod) -> None:
    own = {"role": "pod", "api_server": "https://elsewhere"}
    config = {"scrape_configs": [{"job_name": "a", "kubernetes_sd_configs": [own]}]}
    assert start.adapted(config, pod)["scrape_configs"][0]["kubernetes_sd_configs"] == [own]


def test_static_targets_keep_their_names(pod: start.Pod) -> None:
    targets = ["localhost:9090", "istiod.istio-system:15014", "10.0.0.1:80"]
    config = {"scrape_configs": [{"job_name": "a", "static_configs": [{"targets": targets, "labels": {"a": "b"}}]}]}
    assert start.adapted(config, pod)["scrape_configs"][0]["static_configs"] == [
        {"targets": ["127.70.8.1:9090"], "labels": {"a": "b", "instance": "localhost:9090"}},
        {"targets": ["127.70.0.10:15014"], "labels": {"a": "b", "instance": "istiod.istio-system:15014"}},
        {"targets": ["10.0.0.1:80"], "labels": {"a": "b"}},
    ]


def test_files_of_the_pod_are_found_and_others_stay(pod: start.Pod) -> None:
    tls = {"ca_file": f"{start.ACCOUNT}/ca.crt", "cert_file": "/nowhere/cert.pem", "server_name": "a"}
    found = start.adapted({"scrape_configs": [{"job_name": "a", "tls_config": tls}]}, pod)["scrape_configs"][0]
    assert found["tls_config"] == {**tls, "ca_file": str(pod.root / start.ACCOUNT.lstrip("/") / "ca.crt")}


def test_rules_of_the_pod_are_found(pod: start.Pod) -> None:
    rules = pod.root / "etc/config/rules.yml"
    rules.parent.mkdir(parents=True)
    rules.write_text("{}")
    found = start.adapted({"rule_files": ["/etc/config/rules.yml", "/etc/config/none.yml"]}, pod)
    assert found["rule_files"] == [str(rules), "/etc/config/none.yml"]


def test_without_discovery_of_its_own_files_take_its_place(pod: start.Pod) -> None:
    files = start.Discovered(pod.root)
    config = {"scrape_configs": [{"job_name": "a", "kubernetes_sd_configs": [{"role": "pod"}, {"role": "endpoints"}]}]}
    job = start.adapted(config, pod, files)["scrape_configs"][0]
    assert "kubernetes_sd_configs" not in job
    assert [one["files"] for one in job["file_sd_configs"]] == [[one["file"]] for one in files.jobs]
    assert [one["role"] for one in files.jobs] == ["pod", "endpoints"]
    # Whoever wants ingresses still gets its other targets.
    assert files.file({"role": "ingress"})["files"] == [str(pod.root / "discovered-nothing.json")]
    assert len(files.jobs) == 2


def test_the_command_line_is_the_pods(pod: start.Pod) -> None:
    config = pod.root / "etc/prometheus/prometheus.yml"
    config.parent.mkdir(parents=True)
    config.write_text("scrape_configs: []\n")
    given = ["--storage.tsdb.path=/data", "--web.enable-lifecycle", "--web.console.libraries=/x", "--log.level=debug"]
    argv = start.command(given, pod, "/usr/bin/prometheus")
    assert argv == [
        "/usr/bin/prometheus",
        f"--config.file={pod.root}/prometheus.adapted.yml",
        f"--storage.tsdb.path={pod.root}/data",
        "--web.listen-address=127.70.8.1:9090",
        "--web.enable-lifecycle",
        "--log.level=debug",
    ]
    assert start.command(["--web.listen-address=:9999"], pod, "p")[3] == "--web.listen-address=127.70.8.1:9999"


def test_a_program_with_discovery_is_told_from_one_without(tmp_path: Path) -> None:
    (tmp_path / "with").write_bytes(b"\0github.com/prometheus/prometheus/discovery/kubernetes.New\0")
    (tmp_path / "without").write_bytes(b"\0github.com/prometheus/prometheus/discovery/file.New\0")
    assert start.discovers(str(tmp_path / "with")) and not start.discovers(str(tmp_path / "without"))


def test_the_add_on_names_an_image_of_the_catalogue() -> None:
    documents = list(yaml.safe_load_all((ROOT / "manifests/addons/prometheus.yaml").read_text()))
    [deployment] = [one for one in documents if one["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert find_image(container["image"]).needs == ("prometheus",)
    [configmap] = [one for one in documents if one["kind"] == "ConfigMap"]
    jobs = yaml.safe_load(configmap["data"]["prometheus.yml"])["scrape_configs"]
    assert {"istiod", "kubernetes-pods", "envoy-stats"} <= {one["job_name"] for one in jobs}


# Discovery


def a_pod(**status: Any) -> Object:
    labels, annotations = {"app.kubernetes.io/name": "web"}, {"prometheus.io/scrape": "true"}
    owner = {"controller": True, "kind": "ReplicaSet", "name": "web-1"}
    metadata = {"name": "web-1-x", "namespace": "shop", "uid": "u", "labels": labels, "annotations": annotations}
    ports = [{"containerPort": 80, "name": "http"}]
    return {
        "metadata": {**metadata, "ownerReferences": [owner]},
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "app", "image": "i", "ports": ports}, {"name": "helper"}],
            "initContainers": [{"name": "istio-proxy", "ports": [{"containerPort": 15090, "name": "http-envoy-prom"}]}],
        },
        "status": {
            "podIP": "10.0.0.9",
            "hostIP": "10.0.0.1",
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            **status,
        },
    }


def test_a_pod_is_found_once_for_each_port_with_prometheus_labels() -> None:
    groups = list(discovery.pod_groups({"shop/web-1-x": a_pod()}))
    assert [one["targets"] for one in groups] == [["10.0.0.9:80"], ["10.0.0.9"], ["10.0.0.9:15090"]]
    labels = {name.removeprefix(discovery.META): value for name, value in groups[0]["labels"].items()}
    assert labels == {
        "namespace": "shop",
        "pod_name": "web-1-x",
        "pod_ip": "10.0.0.9",
        "pod_label_app_kubernetes_io_name": "web",
        "pod_labelpresent_app_kubernetes_io_name": "true",
        "pod_annotation_prometheus_io_scrape": "true",
        "pod_annotationpresent_prometheus_io_scrape": "true",
        "pod_ready": "true",
        "pod_phase": "Running",
        "pod_node_name": "n",
        "pod_host_ip": "10.0.0.1",
        "pod_uid": "u",
        "pod_controller_kind": "ReplicaSet",
        "pod_controller_name": "web-1",
        "pod_container_name": "app",
        "pod_container_image": "i",
        "pod_container_init": "false",
        "pod_container_port_name": "http",
        "pod_container_port_number": "80",
        "pod_container_port_protocol": "TCP",
    }
    assert groups[2]["labels"][f"{discovery.META}pod_container_init"] == "true"
    assert not list(discovery.pod_groups({"shop/web-1-x": a_pod(podIP="")}))


def test_endpoints_know_their_service_and_their_pod() -> None:
    target = {"kind": "Pod", "name": "web-1-x", "namespace": "shop"}
    subset = {
        "addresses": [{"ip": "10.0.0.9", "targetRef": target}],
        "notReadyAddresses": [{"ip": "10.0.0.8"}],
        "ports": [{"name": "http", "port": 80}],
    }
    metadata = {"name": "web", "namespace": "shop"}
    service = {"metadata": {**metadata, "labels": {"team": "a"}}, "spec": {}}
    groups = list(
        discovery.endpoint_groups(
            {"shop/web": {"metadata": metadata, "subsets": [subset]}},
            {"shop/web": service},
            {"shop/web-1-x": a_pod()},
        )
    )
    assert [one["targets"] for one in groups] == [["10.0.0.9:80"], ["10.0.0.8:80"]]
    first, second = ({k.removeprefix(discovery.META): v for k, v in one["labels"].items()} for one in groups)
    assert (first["endpoint_ready"], second["endpoint_ready"]) == ("true", "false")
    assert first["service_label_team"] == "a" and first["service_name"] == "web" and first["endpoints_name"] == "web"
    assert first["endpoint_address_target_name"] == first["pod_name"] == "web-1-x"
    assert first["pod_container_name"] == "app" and "pod_name" not in second


def test_services_are_found_by_name() -> None:
    service = {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.9.0.1", "ports": [{"port": 80, "name": "http"}]},
    }
    [group] = discovery.service_groups({"shop/web": service})
    assert group["targets"] == ["web.shop.svc:80"]
    assert group["labels"][f"{discovery.META}service_cluster_ip"] == "10.9.0.1"


def test_nodes_are_found_at_their_kubelets() -> None:
    node = {
        "metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}},
        "status": {
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}},
        },
    }
    [group] = discovery.node_groups({"/n": node})
    assert group["targets"] == ["10.0.0.1:10251"] and group["labels"]["instance"] == "n"
    assert group["labels"][f"{discovery.META}node_label_kubernetes_io_os"] == "linux"
    assert discovery.paths_of("nodes", {"role": "node", "namespaces": {"names": ["a"]}}) == ["/api/v1/nodes"]


def test_what_is_watched_follows_namespaces_and_selectors() -> None:
    wanted = {
        "role": "endpoints",
        "namespaces": {"names": ["a", "b"]},
        "selectors": [{"role": "pod", "label": "app=web"}, {"role": "endpoints", "field": "metadata.name=x"}],
    }
    assert discovery.paths_of("services", wanted) == ["/api/v1/namespaces/a/services", "/api/v1/namespaces/b/services"]
    assert discovery.paths_of("pods", wanted)[0] == "/api/v1/namespaces/a/pods?labelSelector=app%3Dweb"
    assert discovery.paths_of("endpoints", wanted)[1].endswith("endpoints?fieldSelector=metadata.name%3Dx")
    assert discovery.paths_of("pods", {"role": "pod"}) == ["/api/v1/pods"]


def test_without_the_program_the_pod_says_what_to_do_instead(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "POD_ROOT": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, start.__file__], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == start.NOT_FOUND
    assert "no program 'prometheus'" in done.stderr and "lab.metrics()" in done.stderr


# Reloading


def test_a_changed_configuration_is_adapted_again(pod: start.Pod) -> None:
    source = pod.root / "etc/prometheus/prometheus.yml"
    source.parent.mkdir(parents=True)
    source.write_text("scrape_configs: [{job_name: one}]")
    start.command([], pod, "prometheus", start.Discovered(pod.root))
    written = pod.root / "prometheus.adapted.yml"
    assert "one" in written.read_text()
    source.write_text("scrape_configs: [{job_name: two, kubernetes_sd_configs: [{role: pod}]}]")
    start.adapt_again(pod)
    assert "two" in written.read_text() and "file_sd_configs" in written.read_text()
    plan = json.loads((pod.root / "discovery.json").read_text())
    assert [job["role"] for job in plan["jobs"]] == ["pod"]


def test_what_stands_in_watched_places(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = reloader.content([tmp_path])
    assert reloader.content([tmp_path]) == before
    (tmp_path / "a").write_text("2")
    assert reloader.content([tmp_path]) != before
    assert reloader.content([tmp_path / "a"]) != reloader.content([tmp_path / "none"])
    assert reloader.options(["--watched-dir=/a", "--watched-dir=/b", "--flag"]) == {
        "watched-dir": ["/a", "/b"],
        "flag": [""],
    }


def test_prometheus_is_told_and_may_refuse(pod: start.Pod) -> None:
    answers, asked = iter([200, 500]), []

    class Prometheus(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(next(answers))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    assert not reloader.reload(pod, "http://127.0.0.1:1/-/reload")  # it has not begun yet
    source = pod.root / "etc/prometheus/prometheus.yml"
    source.parent.mkdir(parents=True)
    source.write_text("scrape_configs: []")
    start.command([], pod, "prometheus")
    with ThreadingHTTPServer(("127.0.0.1", 0), Prometheus) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/-/reload"
        assert reloader.reload(pod, url) and not reloader.reload(pod, url)
        assert asked == ["/-/reload", "/-/reload"]
        source.write_text("scrape_configs: [")
        assert not reloader.reload(pod, url) and len(asked) == 2
        server.shutdown()
