"""The commands that bring a mesh onto a cluster of a platform, filled in from settings. Pure: nothing is run here.

Each recipe is a list of commands of the platform's own tools, as their documentation has them:
https://learn.microsoft.com/azure/aks/istio-deploy-addon, https://learn.microsoft.com/azure/aks/istio-deploy-ingress,
https://docs.aws.amazon.com/privateca/latest/userguide/create-CA.html,
https://istio.io/latest/docs/setup/install/helm/ and /install/istioctl/, https://kind.sigs.k8s.io/.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from labkit.errors import InputError

AWS = "service.beta.kubernetes.io/aws-load-balancer-"
CHARTS = "https://istio-release.storage.googleapis.com/charts"


@dataclass(frozen=True)
class Tool:
    """A program of a platform: where it comes from, and how one sees whether somebody is logged in."""

    name: str
    source: str
    logged_in: str = ""
    login: str = ""


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("az", "https://learn.microsoft.com/cli/azure/install-azure-cli", "az account show", "az login"),
        Tool("aws", "https://aws.amazon.com/cli/", "aws sts get-caller-identity", "aws configure sso"),
        Tool("docker", "https://docs.docker.com/get-docker/"),
        Tool("helm", "https://helm.sh/docs/intro/install/"),
        Tool("istioctl", "https://istio.io/latest/docs/ops/diagnostic-tools/istioctl/"),
        Tool("kind", "https://kind.sigs.k8s.io/"),
        Tool("kubectl", "https://kubernetes.io/docs/tasks/tools/"),
        Tool("terraform", "https://developer.hashicorp.com/terraform/install"),
    )
}


@dataclass(frozen=True)
class Command:
    """One command and what it is for."""

    what: str
    line: str

    @property
    def tool(self) -> str:
        """The program that it calls."""
        return self.line.split()[0]


@dataclass(frozen=True)
class Recipe:
    """The commands of one platform, in their order."""

    name: str
    title: str
    commands: tuple[Command, ...]


def recipe(name: str, **settings: str) -> Recipe:
    """The recipe of a platform, filled in. Raises InputError for unknown names, and for settings without a value."""
    if name not in RECIPES:
        raise InputError(f"There is no recipe {name!r}.", next_step=f"There are: {', '.join(RECIPES)}.", name=name)
    made = RECIPES[name]
    if unknown := sorted(set(settings) - set(made.settings)):
        raise InputError(
            f"The recipe {name!r} has no setting {unknown[0]!r}.",
            next_step=f"It has: {', '.join(made.settings)}.",
            setting=unknown[0],
        )
    values = {**made.settings, **settings}
    if empty := [key for key, value in values.items() if not str(value).strip()]:
        raise InputError(
            f"The setting {empty[0]!r} is empty.",
            meaning="The commands cannot be filled in without it.",
            next_step=f"Give it: lab.platform({name!r}, {empty[0]}='...').",
            setting=empty[0],
        )
    lines = made.write(_Values({key: str(value) for key, value in values.items()}))
    return Recipe(name, made.title, tuple(Command(what, line) for what, line in lines))


def _json(value: object) -> str:
    return shlex.quote(json.dumps(value, separators=(",", ":")))


def _quoted(value: str) -> str:
    """A value as a shell takes it. What still has to be filled in, as <arn>, stays readable."""
    return value if re.fullmatch(r"<[a-z ]+>", value) else shlex.quote(value)


@dataclass(frozen=True)
class _Values:
    """Settings: `of["name"]` is quoted for a shell, `of.raw` is not, for what is quoted as a whole."""

    raw: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return _quoted(self.raw[name])


Lines = list[tuple[str, str]]


@dataclass(frozen=True)
class _Written:
    """A recipe before it is filled in: settings with what they are without being named, and its lines."""

    title: str
    settings: Mapping[str, str]
    write: Callable[[_Values], Lines]


def _aks(of: _Values) -> Lines:
    target = f"--resource-group {of['resource_group']} --name {of['aks_cluster']}"
    service = "aks-istio-ingressgateway-external"
    return [
        ("install Istio, as an add-on", f"az aks mesh enable {target}"),
        ("let kubectl talk to the cluster", f"az aks get-credentials {target}"),
        ('verify the mode: it says "Istio"', f"az aks show {target} --query serviceMeshProfile.mode"),
        ("see the control plane", "kubectl get pods -n aks-istio-system"),
        ("look the revision up", f"az aks show {target} --query serviceMeshProfile.istio.revisions --output tsv"),
        (
            "ask for sidecars",
            f"kubectl label namespace {of['namespace']} istio.io/rev={of['revision']} istio-injection-",
        ),
        ("add a gateway", f"az aks mesh enable-ingress-gateway {target} --ingress-gateway-type external"),
        ("see its address", f"kubectl get service {service} -n aks-istio-ingress"),
    ]


def _aks_images(of: _Values) -> Lines:
    registry = of["registry"]
    lines: Lines = [
        (
            "let the cluster pull from the registry",
            f"az aks update --resource-group {of['resource_group']} --name {of['aks_cluster']} --attach-acr {registry}",
        ),
        ("log docker in to the registry", f"az acr login --name {registry}"),
    ]
    for app in ("chatbackend", "chatfrontend"):
        image = f"{registry}.azurecr.io/{app}:1.0"
        where = f"-n {of['namespace']}"
        lines += [
            (f"build {app}", f"docker build -f manifests/apps/chat/Dockerfile --target {app} -t {image} ."),
            (f"push {app}", f"docker push {image}"),
            (f"let the Deployment use it: {app}", f"kubectl set image deployment/{app} {app}={image} {where}"),
        ]
    return lines


def load_balancer_annotations(certificate_arn: str) -> dict[str, str]:
    """What a Service of a gateway says to AWS: take off TLS on the port `https`, with this certificate."""
    return {
        f"{AWS}ssl-cert": certificate_arn,
        f"{AWS}backend-protocol": "tcp",
        f"{AWS}ssl-ports": "https",
        f"{AWS}connection-idle-timeout": "3600",
    }


def _eks(of: _Values) -> Lines:
    region = f"--region {of['region']}"
    authority = f"--certificate-authority-arn {of['authority_arn']} {region}"
    subject = {"CommonName": of.raw["domain"]}
    configuration = {"KeyAlgorithm": "RSA_2048", "SigningAlgorithm": "SHA256WITHRSA", "Subject": subject}
    root = "--template-arn arn:aws:acm-pca:::template/RootCACertificate/V1 --validity Value=10,Type=YEARS"
    patch = {"metadata": {"annotations": load_balancer_annotations(of.raw["certificate_arn"])}}
    service = f"{of['service']} -n {of['namespace']}"
    return [
        ("let kubectl talk to the cluster", f"aws eks update-kubeconfig --name {of['eks_cluster']} {region}"),
        (
            "make a private authority: it says authority_arn",
            "aws acm-pca create-certificate-authority --certificate-authority-type ROOT "
            f"--certificate-authority-configuration {_json(configuration)} {region}",
        ),
        (
            "fetch what it wants to be signed",
            f"aws acm-pca get-certificate-authority-csr {authority} --output text > ca.csr",
        ),
        (
            "let it sign itself: it says root_arn",
            f"aws acm-pca issue-certificate {authority} --csr fileb://ca.csr --signing-algorithm SHA256WITHRSA {root}",
        ),
        (
            "fetch its certificate",
            f"aws acm-pca get-certificate {authority} --certificate-arn {of['root_arn']} "
            "--query Certificate --output text > ca.pem",
        ),
        (
            "install it",
            f"aws acm-pca import-certificate-authority-certificate {authority} --certificate fileb://ca.pem",
        ),
        (
            "ask for a server's certificate: it says certificate_arn",
            f"aws acm request-certificate --domain-name {of['host']} {authority}",
        ),
        ("see the gateway's Service", f"kubectl get service {service}"),
        ("give the certificate to its load balancer", f"kubectl patch service {service} --patch {_json(patch)}"),
    ]


def _kind(of: _Values) -> Lines:
    return [
        ("start a cluster in containers", f"kind create cluster --name {of['kind_cluster']}"),
        ("build the images of the applications", "docker build -f manifests/apps/Dockerfile -t mtlslab/apps:1.0 ."),
        ("hand them to the cluster", f"kind load docker-image mtlslab/apps:1.0 --name {of['kind_cluster']}"),
    ]


def _istioctl(of: _Values) -> Lines:
    # Named, even the default revision would become a part of istiod's name.
    revision = "" if of.raw["revision"] == "default" else f" --set revision={of['revision']}"
    return [
        ("what would go wrong?", "istioctl x precheck"),
        ("install", f"istioctl install -f {of['operator']}{revision} -y"),
        ("does everything fit together?", "istioctl analyze --all-namespaces"),
        ("is every proxy in step?", "istioctl proxy-status"),
    ]


def _helm(of: _Values) -> Lines:
    where, version = f"-n {of['namespace']}", f"--version {of['version']}"
    gateway = f"-n {of['gateway_namespace']} --create-namespace"
    return [
        ("know the charts", f"helm repo add istio {CHARTS}"),
        ("fetch their list", "helm repo update"),
        ("the kinds", f"helm install istio-base istio/base {where} --create-namespace {version}"),
        (
            "the control plane, with mesh config as values",
            f"helm install istiod istio/istiod {where} {version} "
            f"--set meshConfig.accessLogFile={of['access_log']} --wait",
        ),
        ("a gateway", f"helm install istio-ingress istio/gateway {gateway} {version} --wait"),
        ("what is installed?", "helm list --all-namespaces"),
    ]


def _terraform(_: _Values) -> Lines:
    return [
        (f"{what}: {step}", line)
        for folder, what in (
            ("aks-tf", "cluster and node pools"),
            ("istio-tf", "Istio, by Helm's provider"),
            ("grafana-dashboards-tf", "dashboards"),
        )
        for step, line in (
            ("fetch the providers", f"terraform -chdir={folder} init -upgrade"),
            ("what would change?", f"terraform -chdir={folder} plan -out=plan.tfplan"),
            ("do it", f"terraform -chdir={folder} apply plan.tfplan"),
        )
    ]


_AKS = {"resource_group": "my-resource-group", "aks_cluster": "my-aks-cluster"}
RECIPES: dict[str, _Written] = {
    "aks": _Written("Istio on AKS", {**_AKS, "revision": "asm-1-24", "namespace": "azureopenai"}, _aks),
    "aks-images": _Written(
        "The chat application's images in a registry of Azure",
        {**_AKS, "registry": "myregistry", "namespace": "azureopenai"},
        _aks_images,
    ),
    "eks": _Written(
        "AWS' certificates at the load balancer",
        {
            "eks_cluster": "my-eks-cluster",
            "region": "us-east-1",
            "domain": "example.com",
            "host": "shop.example.com",
            "service": "istio-ingress",
            "namespace": "istio-ingress",
            "authority_arn": "<authority arn>",
            "root_arn": "<root arn>",
            "certificate_arn": "<certificate arn>",
        },
        _eks,
    ),
    "kind": _Written("A cluster on this machine, with kind", {"kind_cluster": "mtls-lab"}, _kind),
    "istioctl": _Written(
        "Istio by istioctl",
        {"operator": "manifests/lessons/22/root/operator.yaml", "revision": "default"},
        _istioctl,
    ),
    "helm": _Written(
        "Istio by Helm",
        {
            "namespace": "istio-system",
            "gateway_namespace": "istio-ingress",
            "version": "1.24.0",
            "access_log": "/dev/stdout",
        },
        _helm,
    ),
    "terraform": _Written("Three stacks of Terraform, one after the other", {}, _terraform),
}
