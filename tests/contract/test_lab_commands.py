"""The kubectl commands of five published labs on Istio mTLS, as their readers type them, and what kubectl answers.

Each lab runs from its first command to its last on an embedded cluster of its own with the mesh installed. Left out
are the clouds' own commands (az, docker, terraform), istioctl, and kinds that the mesh does not have. The labs' chat
application is this project's own; where a lab brings an application that the project does not have, a web server of
the same name, labels and ports stands in.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.terminal import Terminal, do, kubectls

ROOT = Path(__file__).parents[2]
CLUSTER = "labs"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=kubectls() or [None], ids=lambda path: Path(path).name if path else "none")
def kubectl(request: pytest.FixtureRequest) -> Path:
    """A kubectl; skips when there is none."""
    if request.param is None:
        pytest.skip("NO KUBECTL ON THE PATH: the commands of the labs were not tried. Install kubectl or set KUBECTLS")
    return Path(request.param)


@contextlib.contextmanager
def classroom(directory: Path, kubectl: Path, **installation: str) -> Iterator[Terminal]:
    """A terminal before a fresh embedded cluster with a mesh."""
    from labkit.cluster.opening import open_cluster
    from labkit.embedded import lifecycle
    from labkit.installers import embedded as installer

    kubeconfig = lifecycle.up(CLUSTER)
    try:
        installer.install(open_cluster(f"embedded:{CLUSTER}", narrate=lambda _: None), **installation)
        yield Terminal(directory, kubectl, kubeconfig)
    finally:
        lifecycle.down(CLUSTER, purge=True)


@pytest.fixture(autouse=True)
def _only_embedded(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--context", default=None):
        pytest.skip("the labs install a mesh and label namespaces: on the embedded cluster only")


# Manifests.


def server(name: str, port: int, *, pod_labels: dict[str, str] | None = None, **labels: str) -> str:
    """A Deployment of a web server and its Service."""
    labels = labels or {"app": name}
    container = {
        "name": name,
        "image": "python:3.12-alpine",
        "command": ["python3", "-m", "http.server", str(port)],
        "ports": [{"containerPort": port}],
        "readinessProbe": {"httpGet": {"path": "/", "port": port}, "periodSeconds": 1},
    }
    return _deployment(name, container, labels, pod_labels) + yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": port, "targetPort": port}]},
        }
    )


def caller(name: str, *, pod_labels: dict[str, str] | None = None) -> str:
    """A Deployment from whose pods requests are sent."""
    container = {"name": name, "image": "curlimages/curl:8.10.1", "command": ["sleep", "3600"]}
    return _deployment(name, container, {"app": name}, pod_labels)


def _deployment(name: str, container: Any, labels: dict[str, str], pod_labels: dict[str, str] | None) -> str:
    template = {"metadata": {"labels": labels | (pod_labels or {})}, "spec": {"containers": [container]}}
    template["spec"]["terminationGracePeriodSeconds"] = 1
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    return yaml.safe_dump(body) + "---\n"


def policy(mode: str, *, name: str = "default", namespace: str = "", version: str = "v1", more: str = "") -> str:
    where = f"\n  namespace: {namespace}" if namespace else ""
    return (
        f"apiVersion: security.istio.io/{version}\nkind: PeerAuthentication\n"
        f"metadata:\n  name: {name}{where}\nspec:\n{more}  mtls:\n    mode: {mode}\n"
    )


def piped(text: str) -> str:
    """A manifest that is typed into the terminal, as labs D and E do."""
    return f"kubectl apply -f - <<EOF\n{text}EOF"


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# Lab A: the chat application on AKS.

ASK = (
    "kubectl exec -it ${CURL_OUTSIDE_POD} -- \\\n"
    "  curl -sS -i \\\n"
    '  -H "Content-Type: application/json" \\\n'
    """  -d '{"message":"hello from curl"}' \\\n"""
    "  http://chatbackend-service.azureopenai.svc.cluster.local:5000/chat"
)

LAB_A = [
    do(
        "kubectl get pods -n aks-istio-system",
        r"NAME +READY +STATUS +RESTARTS +AGE",
        r"istiod-asm-1-24-\S+ +1/1 +Running",
    ),
    do("kubectl create namespace azureopenai", "^namespace/azureopenai created$"),
    do("kubectl label namespace azureopenai istio.io/rev=asm-1-24", "^namespace/azureopenai labeled$"),
    do(
        "kubectl create configmap chatbackend-configs -n azureopenai \\\n"
        "--from-literal=AZURE_API_URL=$AZURE_OPENAI_ENDPOINT \\\n"
        "--from-literal=AZURE_API_KEY=$AZURE_API_KEY \\\n"
        "--from-literal=AZURE_MODEL_NAME=$AZURE_MODEL_NAME",
        "^configmap/chatbackend-configs created$",
    ),
    do("kubectl apply -f manifests/chatbackend-deployment.yaml", "^deployment.apps/chatbackend created$"),
    do(
        "kubectl get deployments -n azureopenai",
        r"NAME +READY +UP-TO-DATE +AVAILABLE +AGE",
        r"chatbackend +2/2 +2 +2 +",
        until=True,
    ),
    do("kubectl get pods -n azureopenai", r"(chatbackend-\w+-\w+ +2/2 +Running +0 +\w+\s+){2}"),
    do("kubectl apply -f manifests/chatbackend-service.yaml", "^service/chatbackend-service created$"),
    do(
        "kubectl get services -n azureopenai",
        r"NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE",
        r"chatbackend-service +ClusterIP +[\d.]+ +<none> +5000/TCP",
    ),
    do("kubectl apply -f chatfrontend-deployment.yaml", "^deployment.apps/chatfrontend created$"),
    do("kubectl get deployments -n azureopenai", r"chatbackend +2/2", r"chatfrontend +2/2", until=True),
    do("kubectl get pods -n azureopenai", r"(chatfrontend-\w+-\w+ +2/2 +Running +0 +\w+\s*){2}"),
    do("POD=$(kubectl get pods -n azureopenai -l app=chatbackend -o jsonpath='{.items[0].metadata.name}')"),
    do(
        "kubectl describe pod $POD -n azureopenai",
        r"istio\.io/rev: +asm-1-24|istio.io/rev=asm-1-24",
        r"(?s)Init Containers:\s+istio-init:",
        r"(?s)\n  istio-proxy:\n.*Ready: +True",
        r"Normal +Started .*istio-proxy",
    ),
    do("kubectl apply -f manifests/curl-outside.yaml", "^deployment.apps/curl-outside created$"),
    do("kubectl get deployments -n default", r"curl-outside +1/1 +1 +1", until=True),
    do("kubectl get pods -n default", r"curl-outside-\w+-\w+ +1/1 +Running"),
    do('CURL_OUTSIDE_POD="$(kubectl get pod -l app=curl -o jsonpath="{.items[0].metadata.name}")"'),
    do(ASK, r"HTTP/1\.1 200 OK", r'"model":', r'"reply":', tty=True),
    do(
        "kubectl apply -f manifests/peer-authentication.yaml",
        r"^peerauthentication\.security\.istio\.io/azureopenai-mtls created$",
    ),
    do(
        ASK,
        r"curl: \(56\) Recv failure: Connection reset by peer",
        "command terminated with exit code 56",
        code=56,
        tty=True,
        until=True,
    ),
]


def test_lab_a_the_chat_application(tmp_path: Path, kubectl: Path) -> None:
    chat = ROOT / "manifests" / "apps" / "chat"
    backend_deployment, backend_service = (chat / "chatbackend.yaml").read_text().split("---\n")
    outside = (ROOT / "manifests" / "apps" / "curl-outside" / "curl-outside.yaml").read_text()
    write(
        tmp_path,
        **{
            "manifests/chatbackend-deployment.yaml": backend_deployment,
            "manifests/chatbackend-service.yaml": backend_service,
            "chatfrontend-deployment.yaml": (chat / "chatfrontend.yaml").read_text().split("---\n")[0],
            "manifests/curl-outside.yaml": outside.replace("app: curl-outside", "app: curl"),
            "manifests/peer-authentication.yaml": policy("STRICT", name="azureopenai-mtls", namespace="azureopenai"),
        },
    )
    with classroom(tmp_path, kubectl, namespace="aks-istio-system", revision="asm-1-24") as terminal:
        terminal.run(LAB_A)
        _look_at_the_frontend(terminal)


def _look_at_the_frontend(terminal: Terminal) -> None:
    with socket.socket() as probe:
        port = 8080 if probe.connect_ex(("127.0.0.1", 8080)) else 18080
    command = f"exec kubectl port-forward deployment/chatfrontend {port}:80 -n azureopenai"
    forward = subprocess.Popen(
        ["bash", "-c", command],
        cwd=terminal.directory,
        env=terminal.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert forward.stdout
        assert forward.stdout.readline() == f"Forwarding from 127.0.0.1:{port} -> 80\n"
        for _ in range(2):
            with urllib.request.urlopen(f"http://localhost:{port}/", timeout=20) as answer:
                assert answer.status == 200
                assert b"<html" in answer.read().lower()
    finally:
        forward.terminate()
        forward.communicate(timeout=10)


# Lab B: sentences, injected one by one.

NO_SIDECAR = {"sidecar.istio.io/inject": "false"}
QUERY = "kubectl exec deploy/sentences -c sentences -- curl -sS -o /dev/null -w '%{http_code}' http://age:5000/"

LAB_B = [
    do(
        "kubectl apply -f deploy/mtls/",
        "(?m)^deployment.apps/age created$",
        "(?m)^service/age created$",
        "(?m)^deployment.apps/sentences created$",
    ),
    do(
        "kubectl get pods",
        r"NAME +READY +STATUS +RESTARTS +AGE",
        *(rf"{name}-\w+-\w+ +1/1 +Running +0 " for name in ("age", "name", "sentences")),
        silent_about=("2/2",),
        until=True,
    ),
    do(QUERY, "^200", until=True),
    do("kubectl apply -f deploy/mtls/peer-auth/strict.yaml", "/default created$"),
    do(QUERY, "^200"),
    do(
        "cat deploy/mtls/age.yaml |grep -v inject | kubectl apply -f -",
        "(?m)^deployment.apps/age configured$",
        "(?m)^service/age unchanged$",
    ),
    do("kubectl get pods", r"age-\w+-\w+ +2/2 +Running", silent_about=("age-.*Terminating", "age-.* 1/1"), until=True),
    do(QUERY, r"\(56\) Recv failure: Connection reset by peer", "exit code 56", code=56, until=True),
    do("kubectl apply -f deploy/mtls/peer-auth/permissive.yaml", "/default configured$"),
    do(QUERY, "^200", until=True),
    do(
        "cat deploy/mtls/*.yaml |grep -v inject | kubectl apply -f -",
        "(?m)^deployment.apps/age unchanged$",
        "(?m)^deployment.apps/name configured$",
        "(?m)^deployment.apps/sentences configured$",
    ),
    do(
        "kubectl get pods",
        *(rf"{name}-\w+-\w+ +2/2 +Running" for name in ("age", "name", "sentences")),
        silent_about=("Terminating", " 1/1 "),
        until=True,
    ),
    do("kubectl apply -f deploy/mtls/peer-auth/strict.yaml", "/default configured$"),
    do(QUERY, "^200", until=True),
    do("export SENTENCES_INGRESSGATEWAY_NS=istio-system"),
    do(
        "kubectl -n $SENTENCES_INGRESSGATEWAY_NS create secret generic sentences-tls-secret "
        "--from-file=cert=sentences.example.com.crt --from-file=key=sentences.example.com.key "
        "--from-file=cacert=example.com.crt",
        "^secret/sentences-tls-secret created$",
    ),
    do("kubectl delete -f deploy/mtls/peer-auth/permissive.yaml", r'peerauthentication\S* "default" deleted'),
    do("kubectl delete -f deploy/mtls/", 'deployment.apps "age" deleted', 'service "age" deleted'),
    do("kubectl -n $SENTENCES_INGRESSGATEWAY_NS delete secret sentences-tls-secret", 'secret "sentences-tls-secret"'),
    do("kubectl get pods", "No resources found in default namespace", until=True),
]


def test_lab_b_sentences(tmp_path: Path, kubectl: Path) -> None:
    write(
        tmp_path,
        **{
            "deploy/mtls/age.yaml": server("age", 5000, pod_labels=NO_SIDECAR),
            "deploy/mtls/name.yaml": "---\n" + server("name", 5000, pod_labels=NO_SIDECAR),
            "deploy/mtls/sentences.yaml": "---\n" + caller("sentences", pod_labels=NO_SIDECAR),
            "deploy/mtls/peer-auth/strict.yaml": policy("STRICT"),
            "deploy/mtls/peer-auth/permissive.yaml": policy("PERMISSIVE"),
            "sentences.example.com.crt": "a certificate",
            "sentences.example.com.key": "a key",
            "example.com.crt": "a certificate",
        },
    )
    with classroom(tmp_path, kubectl) as terminal:
        terminal.take(do("kubectl label namespace default istio-injection=enabled"))
        terminal.run(LAB_B)


# Lab C: a client without a sidecar.

CALL = "kubectl exec deploy/web-frontend -- curl -sS -o /dev/null -w '%{http_code}' http://customers/"

LAB_C = [
    do("kubectl label namespace default istio-injection-", "^namespace/default unlabeled$"),
    do("kubectl apply -f web-frontend.yaml", "deployment.apps/web-frontend created"),
    do("kubectl get po", r"web-frontend-\w+-\w+ +1/1 +Running +0 ", until=True),
    do("kubectl label namespace default istio-injection=enabled", "^namespace/default labeled$"),
    do("kubectl apply -f customers-v1.yaml", "deployment.apps/customers-v1 created", "service/customers created"),
    do(
        "kubectl get po",
        r"customers-v1-\w+-\w+ +2/2 +Running +0 ",
        r"web-frontend-\w+-\w+ +1/1 +Running +0 ",
        until=True,
    ),
    do(CALL, "^200", until=True),
    do("kubectl apply -f strict-mtls.yaml", "/default created$"),
    do(CALL, "exit code 56", code=56, until=True),
    do("kubectl delete peerauthentication default", r'^peerauthentication\S* "default" deleted'),
    do(CALL, "^200", until=True),
    do(
        "kubectl delete deploy web-frontend customers-v1",
        r'deployment\S* "web-frontend" deleted',
        r'deployment\S* "customers-v1" deleted',
    ),
    do("kubectl delete svc customers web-frontend", 'service "customers" deleted', 'service "web-frontend" deleted'),
]


def test_lab_c_customers(tmp_path: Path, kubectl: Path) -> None:
    customers = server("customers", 80, app="customers").replace(
        "name: customers\nspec:\n  replicas", "name: customers-v1\nspec:\n  replicas"
    )
    frontend = caller("web-frontend") + server("web-frontend", 80).split("---\n")[1]
    write(
        tmp_path,
        **{"web-frontend.yaml": frontend, "customers-v1.yaml": customers, "strict-mtls.yaml": policy("STRICT")},
    )
    with classroom(tmp_path, kubectl) as terminal:
        terminal.take(do("kubectl label namespace default istio-injection=enabled"))
        terminal.run(LAB_C)


# Lab D: Istio on AKS, by hand.

ONE_PORT = "  selector:\n    matchLabels:\n      run: echoserver\n"

LAB_D = [
    do("kubectl label namespace default istio-injection=enabled", "^namespace/default labeled$"),
    do(
        piped(server("echoserver", 8080, run="echoserver")),
        "(?m)^deployment.apps/echoserver created$",
        "(?m)^service/echoserver created$",
    ),
    do("kubectl get pods", r"echoserver-\w+-\w+ +2/2 +Running", until=True),
    do("kubectl get pod -o yaml", "name: istio-proxy", "name: istio-init", "kind: List"),
    do("kubectl get deployment -o yaml", "name: echoserver", silent_about=("istio-proxy",)),
    do("kubectl get pod -l run=echoserver -o jsonpath='{.items[0].spec.nodeName}'", r"^\S+$"),
    do(
        piped(policy("STRICT", namespace="istio-system", version="v1beta1")),
        "^peerauthentication.security.istio.io/default created$",
    ),
    do(
        piped(
            policy("STRICT", name="allow-scraping", namespace="default", version="v1beta1", more=ONE_PORT)
            + "  portLevelMtls:\n    15020:\n      mode: DISABLE\n"
        ),
        "^peerauthentication.security.istio.io/allow-scraping created$",
    ),
    do(
        "kubectl get peerauthentication -A",
        r"NAMESPACE +NAME +MODE +AGE",
        r"istio-system +default +STRICT",
        r"default +allow-scraping +STRICT",
    ),
    do("kubectl get crd", r"peerauthentications\.security\.istio\.io"),
]


def test_lab_d_istio_by_hand(tmp_path: Path, kubectl: Path) -> None:
    with classroom(tmp_path, kubectl) as terminal:
        terminal.run(LAB_D)


# Lab E: peer authentication on EKS.

SHOP = {"frontend": 9000, "productcatalog": 5000, "catalogdetail": 3000, "catalogdetail2": 3000}

LAB_E = [
    do(
        "kubectl get pods -n workshop",
        r"NAME +READY +STATUS +RESTARTS +AGE",
        *(rf"{name}-\w+-\w+ +2/2 +Running +0 " for name in SHOP),
        until=True,
    ),
    do(
        piped(policy("STRICT", namespace='"istio-system"', name='"default"', version="v1beta1")),
        "^peerauthentication.security.istio.io/default created$",
    ),
    do(
        "kubectl get svc -n workshop",
        r"NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE",
        *(rf"{name} +ClusterIP +[\d.]+ +<none> +{port}/TCP" for name, port in SHOP.items()),
    ),
]


def test_lab_e_peer_authentication(tmp_path: Path, kubectl: Path) -> None:
    with classroom(tmp_path, kubectl) as terminal:
        for command in (
            "kubectl create namespace workshop",
            "kubectl label namespace workshop istio-injection=enabled",
            piped("---\n".join(server(name, port) for name, port in SHOP.items())).replace(
                " -f -", " -n workshop -f -"
            ),
        ):
            terminal.take(do(command))
        terminal.run(LAB_E)
        _ask_from_a_pod_with_curl(terminal)
        frontend = "$(kubectl get pod -n workshop -l app=frontend -o name)"
        terminal.take(do(f"kubectl logs {frontend} -n workshop -c istio-proxy"))


def _ask_from_a_pod_with_curl(terminal: Terminal) -> None:
    """A shell in a pod without a sidecar, one request, and `exit`, after which kubectl deletes the pod."""
    _, said = terminal.in_terminal(
        "kubectl run -i --tty curler --image=public.ecr.aws/k8m1l3p1/alpine/curler:latest --rm",
        typed=[
            ("try pressing enter", "\n"),
            (r"[#$] ?$", "curl -v frontend.workshop.svc.cluster.local:9000\n"),
            (r"curl: \(56\) Recv failure: Connection reset by peer\s+.*[#$] ?$", "exit\n"),
        ],
    )
    assert re.search(r"Connected to \S+ \([\d.]+\) port 9000", said), said
    assert "> Host: frontend.workshop.svc.cluster.local:9000" in said
    assert 'pod "curler" deleted' in said
