"""How a mesh is configured when it is installed: Helm's values, or an IstioOperator, as one set of settings. Pure.

1. `meshConfig` becomes the ConfigMap `istio`; what it does not name keeps what the installer writes.
2. `global.proxy` and `sidecarInjectorWebhook` say how pods are injected, `pilot.env` is istiod's environment.
3. An IstioOperator says the same in `spec`: `meshConfig` there goes before `values.meshConfig`, the environment is in
   `components.pilot.k8s.env`, and `profile` or `components.ingressGateways` ask for an ingress gateway.
4. What is written and has no effect on the embedded mesh is said, path by path.

https://istio.io/latest/docs/reference/config/istio.operator.v1alpha1/ and, of istio/istio,
manifests/charts/istio-control/istio-discovery/values.yaml, manifests/profiles/*.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from labkit.errors import InputError

Object = Mapping[str, Any]

PROFILES: dict[str, dict[str, Any]] = {
    "default": {"gateway": True},
    "demo": {"gateway": True, "meshConfig": {"accessLogFile": "/dev/stdout"}},
    "minimal": {},
    "empty": {},
}

# What istiod reads of each part; `*` stands for any key, and everything below a path counts.
_ACTED_ON = (
    "meshConfig.rootNamespace",
    "meshConfig.trustDomain",
    "meshConfig.trustDomainAliases",
    "meshConfig.enableAutoMtls",
    "meshConfig.outboundTrafficPolicy.mode",
    "meshConfig.accessLogFile",
    "meshConfig.accessLogFormat",
    "meshConfig.accessLogEncoding",
    "meshConfig.extensionProviders",
    "meshConfig.defaultProviders.accessLogging",
    "meshConfig.meshMTLS.minProtocolVersion",
    "meshConfig.meshMTLS.cipherSuites",
    "meshConfig.defaultConfig.concurrency",
    "meshConfig.defaultConfig.proxyMetadata",
    "meshConfig.defaultConfig.holdApplicationUntilProxyStarts",
    "global.istioNamespace",
    "global.proxy.image",
    "global.proxy.logLevel",
    "global.proxy.holdApplicationUntilProxyStarts",
    "global.proxy.resources",
    "sidecarInjectorWebhook.enableNamespacesByDefault",
    "sidecarInjectorWebhook.rewriteAppHTTPProbe",
    "pilot.env.DEFAULT_WORKLOAD_CERT_TTL",
    "revision",
)


@dataclass(frozen=True)
class MeshValues:
    """What an installation is told beside its defaults."""

    mesh: Object = field(default_factory=dict)
    """Settings of the mesh: what goes over the ConfigMap `istio`."""
    injection: Object = field(default_factory=dict)
    """Values of the ConfigMap `istio-sidecar-injector`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """istiod's."""
    namespace: str = ""
    revision: str = ""
    gateway: bool = False
    """Whether an ingress gateway is asked for."""
    namespaces_by_default: bool = False
    """Whether pods are injected where no label says otherwise."""
    without_effect: tuple[str, ...] = ()


def read_mesh_values(written: Object) -> MeshValues:
    """Read Helm's values, or an IstioOperator. Raises InputError for what is neither."""
    if not isinstance(written, Mapping):
        raise InputError(
            f"The settings of the mesh are {type(written).__name__}, and no table of values.",
            next_step="Write them as YAML, for example 'meshConfig: {accessLogFile: /dev/stdout}'.",
        )
    kind = written.get("kind")
    if kind not in (None, "IstioOperator"):
        raise InputError(
            f"A {kind} does not say how a mesh is installed.",
            next_step="Give an IstioOperator, or the values of Helm's chart istiod.",
        )
    spec = _table(written, "spec") if kind else written
    helm = {**{k: v for k, v in spec.items() if k not in _OPERATOR}, **_table(spec, "values")}
    profile = _profile(spec)
    mesh = merge(PROFILES[profile].get("meshConfig", {}), _table(helm, "meshConfig"), _table(spec, "meshConfig"))
    helm["meshConfig"] = merge(_table(helm, "meshConfig"), _table(spec, "meshConfig"))
    variables = {**_table(_table(helm, "pilot"), "env"), **_operator_environment(spec)}
    webhook, proxy = _table(helm, "sidecarInjectorWebhook"), _table(_table(helm, "global"), "proxy")
    injection: dict[str, Any] = {}
    if proxy:
        injection["global"] = {"proxy": dict(proxy)}
    if "rewriteAppHTTPProbe" in webhook:
        injection["sidecarInjectorWebhook"] = {"rewriteAppHTTPProbe": webhook["rewriteAppHTTPProbe"]}
    return MeshValues(
        mesh=mesh,
        injection=injection,
        environment={name: str(value) for name, value in variables.items()},
        namespace=str(_table(helm, "global").get("istioNamespace") or (spec.get("namespace") if kind else "") or ""),
        revision=str(spec.get("revision") or helm.get("revision") or ""),
        gateway=_wants_gateway(spec, profile),
        namespaces_by_default=bool(webhook.get("enableNamespacesByDefault")),
        without_effect=tuple(sorted(_without_effect(helm, spec))),
    )


def forgotten(before: Object, after: Object, path: str = "meshConfig") -> list[str]:
    """The settings of `before` that are no longer so in `after`, each with the value that it had.

    What was written last counts, and all else has its default, as with 'istioctl install': hand in as `before` what
    was in force, with what was written now over it.
    """
    found: list[str] = []
    for key, value in before.items():
        now, here = after.get(key, ...), f"{path}.{key}"
        if isinstance(value, Mapping):
            found += forgotten(value, now if isinstance(now, Mapping) else {}, here)
        elif now != value:
            found.append(f"{here}={value}")
    return found


def meant(path: str) -> str:
    """The path that acts, of one that has no effect and is nearly the same; empty if there is none."""
    same = [one for one in _ACTED_ON if one.lower() == path.lower()]
    return next(iter(same or get_close_matches(path, _ACTED_ON, n=1, cutoff=0.85)), "")


_OPERATOR = frozenset(
    {"profile", "values", "components", "namespace", "hub", "tag", "meshConfig", "installPackagePath"}
)


def _profile(spec: Object) -> str:
    profile = str(spec.get("profile") or "minimal")
    if profile not in PROFILES:
        raise InputError(
            f"The embedded mesh has no profile {profile!r}.",
            meaning="A profile of Istio says which components are installed; labkit knows those of the lessons.",
            next_step=f"Use one of {', '.join(PROFILES)}.",
            field="profile",
        )
    return profile


def _operator_environment(spec: Object) -> dict[str, Any]:
    pilot = _table(_table(_table(spec, "components"), "pilot"), "k8s")
    return {str(one.get("name")): one.get("value", "") for one in pilot.get("env") or ()}


def _wants_gateway(spec: Object, profile: str) -> bool:
    listed = _table(spec, "components").get("ingressGateways")
    if listed is None:
        return bool(PROFILES[profile].get("gateway"))
    return any(bool(one.get("enabled")) for one in listed)


def _without_effect(helm: Object, spec: Object) -> Iterator[str]:
    for path in _leaves(helm):
        if not any(path == known or path.startswith(known + ".") for known in _ACTED_ON):
            yield path
    for name in ("hub", "tag"):
        if spec.get(name):
            yield name
    components = _table(spec, "components")
    yield from (f"components.{name}" for name in components if name not in ("pilot", "base", "ingressGateways"))


def _leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif path and value not in (None, {}, []):
        yield path


def _table(value: Object, name: str) -> Object:
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise InputError(f"{name} is {found!r}, and no table.", next_step="Write keys and values below it.", field=name)
    return found


def merge(*layers: Object) -> dict[str, Any]:
    """Tables over each other: a later one wins, tables in both are merged, and null takes a key out, as in Helm."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if value is None:
                result.pop(key, None)
            elif isinstance(value, Mapping):
                below = result.get(key)
                result[key] = merge(below if isinstance(below, Mapping) else {}, value)
            else:
                result[key] = value
    return result


# `--set`, https://helm.sh/docs/intro/using_helm/#the-format-and-limitations-of---set

_PART = re.compile(r"(?P<name>(?:[^.\[\]\\]|\\.)*)(?P<places>(?:\[\d+\])*)")


def from_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Values of `--set a.b=c`, one after the other: `\\.` is a dot in a name, `[0]` a place in a list."""
    result: dict[str, Any] = {}
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise InputError(
                f"{text!r} sets nothing.", next_step="Write it as meshConfig.accessLogFile=/dev/stdout.", field="set"
            )
        result = merge(result, _nested(_steps(path), _scalar(value)))
    return result


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    for piece in re.split(r"(?<!\\)\.", path):
        match = _PART.fullmatch(piece)
        if not match or not match["name"]:
            raise InputError(
                f"{path!r} is no path to a value.", next_step="Write names with dots between.", field="set"
            )
        steps.append(match["name"].replace("\\.", "."))
        steps += [int(number) for number in re.findall(r"\d+", match["places"])]
    return steps


def _nested(steps: list[str | int], value: Any) -> Any:
    if not steps:
        return value
    inner = _nested(steps[1:], value)
    # Of a list only its one place is said, so it replaces the list.
    return {steps[0]: inner} if isinstance(steps[0], str) else [inner]


def _scalar(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if text == "null":
        return None
    return int(text) if re.fullmatch(r"-?(0|[1-9]\d*)", text) else text.replace("\\,", ",")
