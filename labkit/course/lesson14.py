"""Lesson 14: six kinds that the other lessons leave out, each with one effect to see."""

from typing import Any

from labkit.course.acts import apply, run
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_status

MANIFESTS = "manifests/lessons/14"
ISSUER = "lab-issuer"


def _ask_for_good_tokens(lab: Any) -> object:
    rule = {"issuer": ISSUER, "jwks": lab.token_issuer(ISSUER).jwks}
    return lab.apply(
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "RequestAuthentication",
            "metadata": {"name": "tokens", "namespace": "visits"},
            "spec": {"jwtRules": [rule]},
        }
    )


def _load_a_module(lab: Any) -> object:
    return lab.apply(
        {
            "apiVersion": "extensions.istio.io/v1alpha1",
            "kind": "WasmPlugin",
            "metadata": {"name": "greeting", "namespace": "visits"},
            "spec": {
                "selector": {"matchLabels": {"app": "visits"}},
                "url": lab.module_url("assets/wasm/response-header.wasm"),
                "pluginConfig": {"greeting": "hello from Wasm"},
            },
        }
    )


def _shown(seen: Any) -> str:
    """The letter by what the server's proxy says of the caller's certificate."""
    if seen.http_status != 200:
        return "c"
    return "b" if seen.headers.get("x-certificate") == "nobody" else "a"


LESSON = Lesson(
    number="14",
    title="Meet six more kinds",
    world=World(applications=("visits", "callers")),
    steps=(
        Step("RequestAuthentication: read tokens", _ask_for_good_tokens, ("14-tokens",), covers=("D17",)),
        Step("Telemetry: log what failed", apply(f"{MANIFESTS}/telemetry.yaml"), ("14-errors-alone",), covers=("D17",)),
        Step("EnvoyFilter: a few lines of Lua", apply(f"{MANIFESTS}/envoy-filter.yaml"), ("14-lua",), covers=("D17",)),
        Step("WasmPlugin: load a module", _load_a_module, ("14-wasm",), covers=("D17",)),
        Step(
            "ProxyConfig: start with more threads",
            run(apply(f"{MANIFESTS}/proxy-config.yaml"), lambda lab: lab.restart("callers/curl")),
            ("14-threads",),
            covers=("D17",),
        ),
        Step("Sidecar: tell a proxy less", apply(f"{MANIFESTS}/sidecar.yaml"), ("14-told-less",), covers=("D17",)),
    ),
    predictions={
        "14.1": Prediction(
            "visits has a RequestAuthentication now. callers/curl calls it without any token. What comes?",
            {"a": "200", "b": "401", "c": "403"},
            answer=by_status({200: "a", 401: "b", 403: "c"}),
            expected="a",
            because="It refuses tokens that are wrong. To demand one is an AuthorizationPolicy's task.",
        ),
        "14.2": Prediction(
            "curl's proxy is not told of visits any more. curl calls visits all the same. What travels?",
            {"a": "mTLS, as before", "b": "plaintext", "c": "nothing: the call fails"},
            answer=_shown,
            expected="b",
            because="A host that the proxy does not know is passed on as it came, and curl had sent plaintext.",
        ),
    },
    quiz=(
        Question(
            "A RequestAuthentication selects a workload, and nothing else does. Who is refused there?",
            {
                "a": "requests without a token",
                "b": "requests with a token that is forged, expired or of another issuer",
                "c": "clients without a certificate",
            },
            right="b",
            because="No token is no wrong token. And tokens name users; certificates, by mTLS, name workloads.",
        ),
        Question(
            "You apply a ProxyConfig with concurrency: 4. When do the proxies have four threads?",
            {"a": "within a second", "b": "after istiod restarts", "c": "when their pods start the next time"},
            right="c",
            because="It says how a proxy is started. The other five kinds change proxies that run.",
        ),
        Question(
            "After somebody added a Sidecar, calls between two namespaces went from mTLS to plaintext. Why?",
            {
                "a": "The client's proxy is not told of that service, so it passes the bytes on.",
                "b": "A Sidecar removes the sidecar's certificate.",
                "c": "A Sidecar makes servers PERMISSIVE.",
            },
            right="a",
            because="Auto mTLS needs endpoints that the proxy knows. With REGISTRY_ONLY the call would fail instead.",
        ),
    ),
)
