"""The objects of an installation, for the two ways that the lessons install it."""

from __future__ import annotations

import json

import pytest

from labkit.embedded.controlplane.agent import XDS_MOUNT
from labkit.embedded.controlplane.settings import MONITORING_PORT, READY_PORT, WEBHOOK_PORT
from labkit.errors import InputError
from labkit.installers.embedded import Installation, proxy_starts
from labkit.policy.injection import injection_webhooks

DEFAULT = Installation()
ADDON = Installation("aks-istio-system", "asm-1-24")


@pytest.mark.parametrize("installation", [DEFAULT, ADDON])
def test_no_parameter_is_left_unfilled(installation: Installation) -> None:
    objects = [*installation.crds(), *installation.control_plane(), *installation.webhooks()]
    assert "$(" not in json.dumps(objects)


def test_names_carry_the_revision_only_when_it_is_not_the_default() -> None:
    assert DEFAULT.deployment == "istiod"
    assert ADDON.deployment == "istiod-asm-1-24"
    mutating, validating = ADDON.webhooks()
    assert mutating["metadata"]["name"] == "istio-sidecar-injector-asm-1-24"
    assert validating["metadata"]["name"] == "istio-validator-asm-1-24-aks-istio-system"


@pytest.mark.parametrize("installation", [DEFAULT, ADDON])
def test_the_webhooks_select_what_the_policy_predicts(installation: Installation) -> None:
    mutating, _ = installation.webhooks()
    table = injection_webhooks(installation.revision)
    assert [webhook["name"] for webhook in mutating["webhooks"]] == [webhook.name for webhook in table]
    assert [w["namespaceSelector"] for w in mutating["webhooks"]] == [w.namespace_selector() for w in table]
    assert [w["objectSelector"] for w in mutating["webhooks"]] == [w.object_selector() for w in table]


@pytest.mark.parametrize("installation", [DEFAULT, ADDON])
def test_webhooks_lead_to_the_service_of_their_istiod(installation: Installation) -> None:
    service = next(obj for obj in installation.control_plane() if obj["kind"] == "Service")
    for configuration in installation.webhooks():
        for webhook in configuration["webhooks"]:
            target = webhook["clientConfig"]["service"]
            assert (target["name"], target["namespace"]) == (service["metadata"]["name"], installation.namespace)
            assert webhook["failurePolicy"] == "Fail"
    assert {p["port"]: p["targetPort"] for p in service["spec"]["ports"]} == {
        443: WEBHOOK_PORT,
        MONITORING_PORT: MONITORING_PORT,
    }


def test_the_deployment_agrees_with_the_program_that_it_runs() -> None:
    deployment = next(obj for obj in ADDON.control_plane() if obj["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": READY_PORT}
    assert {e["name"]: e.get("value") for e in container["env"]}["REVISION"] == "asm-1-24"
    assert container["volumeMounts"][0]["mountPath"] == f"/{XDS_MOUNT}"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert labels["sidecar.istio.io/inject"] == "false"


def test_both_versions_of_the_kind_are_served_and_one_is_stored() -> None:
    crd = next(one for one in DEFAULT.crds() if one["spec"]["names"]["kind"] == "PeerAuthentication")
    versions = {v["name"]: (v["served"], v["storage"]) for v in crd["spec"]["versions"]}
    assert versions == {"v1": (True, True), "v1beta1": (True, False)}
    assert crd["spec"]["names"]["shortNames"] == ["pa"]
    columns = [column["name"] for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]]
    assert columns == ["Mode", "Age"]


@pytest.mark.parametrize("values", [("Istio", "default"), ("istio-system", "1.24"), ("", "default"), ("a" * 64, "x")])
def test_a_name_that_kubernetes_would_refuse_is_refused_before_anything_happens(values: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="cannot be the mesh's"):
        Installation(*values)


KNOWN = frozenset(
    {
        *("type", "description", "properties", "additionalProperties", "items", "enum", "required", "nullable"),
        *("format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties"),
        *("oneOf", "anyOf", "allOf", "not", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
        *("maxProperties", "pattern", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations"),
    }
)


def unknown_words(schema: object, path: str) -> list[str]:
    """Where a schema has a key that is none, or one without a value: in YAML a comma makes that quickly."""
    if not isinstance(schema, dict):
        return [path]
    found = [f"{path}: {key}" for key, value in schema.items() if key not in KNOWN or value is None]
    for name, inner in (schema.get("properties") or {}).items():
        found += unknown_words(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found += unknown_words(schema[key], f"{path}[]")
    return found


def test_every_word_of_the_schemas_is_one() -> None:
    for crd in DEFAULT.crds():
        for version in crd["spec"]["versions"]:
            assert unknown_words(version["schema"]["openAPIV3Schema"], crd["metadata"]["name"]) == []
    assert unknown_words({"type": "string", "or a name.": None}, "x") == ["x: or a name."]


def container(name: str, *, ready: bool = False, waiting: str = "") -> dict[str, object]:
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    return {"name": name, "ready": ready, "state": state}


WAITING, BACKOFF = container("istio-proxy", waiting="PodInitializing"), "CrashLoopBackOff"
RUNNING, READY = container("istio-proxy"), container("istio-proxy", ready=True)
IMAGE = container("app", waiting="ImagePullBackOff")

STARTING = [
    # init containers, containers, more of the pod -> whether an uninstallation waits for its proxy
    ([], [], {}, True),
    ([], [container("app"), WAITING], {}, True),
    ([], [IMAGE, RUNNING], {}, True),
    ([container("istio-init", ready=True)], [container("app"), RUNNING], {}, True),
    ([], [container("app"), READY], {}, False),
    ([], [IMAGE, READY], {}, False),
    ([container("first", waiting=BACKOFF)], [container("app"), WAITING], {}, False),
    ([], [container("app"), container("istio-proxy", waiting="ErrImagePull")], {}, False),
    ([], [container("app"), RUNNING], {"phase": "Failed"}, False),
    ([READY], [container("app")], {}, False),  # a native sidecar
]


@pytest.mark.parametrize(("inits", "containers", "more", "expected"), STARTING)
def test_an_uninstallation_waits_for_proxies_that_will_be_ready(
    inits: list[dict[str, object]], containers: list[dict[str, object]], more: dict[str, str], expected: bool
) -> None:
    status = {"initContainerStatuses": inits, "containerStatuses": containers, "phase": "Running", **more}
    spec = {"containers": [{"name": "app"}, {"name": "istio-proxy"}]}
    metadata = {"name": "pod", "namespace": "shop"}
    pod = {"metadata": metadata, "spec": spec, "status": status}
    assert proxy_starts(pod) is expected
    going = {**metadata, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert not proxy_starts({**pod, "metadata": going})
    assert not proxy_starts({**pod, "spec": {"containers": [{"name": "app"}]}})
