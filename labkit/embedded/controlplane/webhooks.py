"""The control plane's HTTP: injection and validation for the API server, readiness and metrics for everybody else.

15017 HTTPS  /inject, /validate     AdmissionReview v1
8080  HTTP   /ready
15014 HTTP   /version, /metrics, /debug/syncz, /debug/config_dump, /debug/configz
"""

from __future__ import annotations

import base64
import json
import logging
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from labkit.embedded.controlplane.injection import InjectionSettings, inject, make_patch
from labkit.embedded.controlplane.kinds import KINDS
from labkit.errors import InputError
from labkit.pki import Leaf
from labkit.policy.injection import inject_refusal
from labkit.policy.support import impossible, not_acted_on
from labkit.policy.validation import Validation, validate
from labkit.policy.workload import has_sidecar

log = logging.getLogger(__name__)

Object = dict[str, Any]

# A pod of a few hundred kilobytes is unheard of; etcd's limit for any object is 1.5 MB.
MAX_REVIEW_BYTES = 2 * 2**20


def judge_applied(obj: Object) -> Validation:
    """What is said of an object of one of Istio's kinds when it is applied.

    Istio's own words first. What they let pass and the embedded mesh cannot read, or must not do, is refused with the
    reason; what it does not act on is a warning.
    """
    kind = str(obj.get("kind") or "")
    said = validate(kind, obj)
    errors = said.errors or (*impossible(obj), *_unreadable(kind, obj))
    return Validation(errors, (*said.warnings, *not_acted_on(obj)))


def _unreadable(kind: str, obj: Object) -> tuple[str, ...]:
    try:
        if kind in KINDS:
            KINDS[kind].read(obj)
    except InputError as error:
        return (" ".join(part for part in (error.what, error.meaning) if part),)
    return ()


class Counters:
    """What /metrics counts, under Istio's names."""

    def __init__(self) -> None:
        self.values: dict[str, int] = dict.fromkeys(
            (
                "sidecar_injection_requests_total",
                "sidecar_injection_success_total",
                "sidecar_injection_skip_total",
                "sidecar_injection_failure_total",
                "galley_validation_passed",
                "galley_validation_failed",
            ),
            0,
        )

    def add(self, name: str) -> None:
        self.values[name] += 1


class Webhooks:
    """Answers the API server's admission reviews."""

    def __init__(self, settings: Callable[[], InjectionSettings], counters: Counters) -> None:
        self._settings = settings
        self._counters = counters

    def application(self) -> web.Application:
        """The HTTP application of port 15017."""
        app = web.Application(client_max_size=MAX_REVIEW_BYTES)
        # Istio's webhook has the cluster and network in its path where there are several (/inject/cluster/...).
        app.router.add_post("/inject", lambda request: _answer(request, self.review_injection))
        app.router.add_post("/validate", lambda request: _answer(request, self.review_validation))
        return app

    def review_injection(self, request: Object) -> Object:
        """The response to a review of a new pod."""
        self._counters.add("sidecar_injection_requests_total")
        pod, namespace = request["object"], request.get("namespace") or "default"
        labels, annotations = _table(pod, "labels"), _table(pod, "annotations")
        host_network = bool(pod["spec"].get("hostNetwork"))
        refusal = inject_refusal(labels, annotations, namespace=namespace, host_network=host_network)
        if refusal or has_sidecar(pod, complete=True):
            self._counters.add("sidecar_injection_skip_total")
            log.info("%s is left as it is: %s", _name(pod, namespace), refusal or "it has a sidecar")
            return {"allowed": True}
        try:
            patch = make_patch(pod, inject(pod, namespace, self._settings()))
        except InputError as error:
            self._counters.add("sidecar_injection_failure_total")
            return {"allowed": False, "status": {"status": "Failure", "message": error.what, "code": 500}}
        except (KeyError, TypeError, ValueError, AttributeError):
            self._counters.add("sidecar_injection_failure_total")
            raise
        self._counters.add("sidecar_injection_success_total")
        log.info("%s gets a sidecar", _name(pod, namespace))
        return {
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }

    def review_validation(self, request: Object) -> Object:
        """The response to a review of one of Istio's resources."""
        obj = request.get("object")
        if request.get("operation") not in ("CREATE", "UPDATE") or not obj:
            return {"allowed": True}
        validation = judge_applied({"kind": (request.get("kind") or {}).get("kind"), **obj})
        self._counters.add("galley_validation_passed" if validation.valid else "galley_validation_failed")
        response: Object = {"allowed": validation.valid}
        if validation.warnings:
            response["warnings"] = list(validation.warnings)
        if not validation.valid:
            message = f"configuration is invalid: {in_one_text(validation.errors)}"
            response["status"] = {"status": "Failure", "message": message, "reason": "Invalid", "code": 400}
        return response


def in_one_text(errors: tuple[str, ...]) -> str:
    """Several errors as Istio prints them, one as it is."""
    if len(errors) == 1:
        return errors[0]
    points = "\n\t".join(f"* {error}" for error in errors)
    return f"{len(errors)} errors occurred:\n\t{points}\n\n"


async def _answer(request: web.Request, review: Callable[[Object], Object]) -> web.Response:
    try:
        body = await request.json()
        uid = body["request"]["uid"]
        response = review(body["request"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("a review at %s cannot be answered: %r", request.path, error)
        return web.Response(status=400, text=f"could not handle the admission review: {error!r}")
    answer = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": uid, **response}}
    return web.json_response(answer)


def _table(pod: Object, name: str) -> dict[str, str]:
    return (pod.get("metadata") or {}).get(name) or {}


def _name(pod: Object, namespace: str) -> str:
    metadata = pod.get("metadata") or {}
    return f"{namespace}/{metadata.get('name') or metadata.get('generateName', '') + '*'}"


def server_context(leaf: Leaf) -> ssl.SSLContext:
    """TLS for port 15017. The ssl module reads certificates from files only, so they pass through one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    present(context, leaf)
    return context


def present(context: ssl.SSLContext, leaf: Leaf) -> None:
    """Show this certificate from the next handshake on."""
    with tempfile.TemporaryDirectory() as directory:
        certificate = Path(directory) / "cert.pem"
        certificate.touch(mode=0o600)
        certificate.write_bytes(leaf.chain_pem + leaf.key_pem)
        context.load_cert_chain(certificate)


def readiness_application(is_ready: Callable[[], bool]) -> web.Application:
    """The HTTP application of port 8080."""

    async def ready(_: web.Request) -> web.Response:
        return web.Response(status=200 if is_ready() else 503)

    app = web.Application()
    app.router.add_get("/ready", ready)
    return app


def monitoring_application(
    version: str,
    metrics: Callable[[], str],
    proxies: Callable[[], list[Object]] = list,
    configs: Callable[[], list[Object]] = list,
    dump: Callable[[str], Object | None] = lambda _: None,
) -> web.Application:
    """The HTTP application of port 15014."""

    async def show_version(_: web.Request) -> web.Response:
        return web.Response(text=version)

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(text=metrics(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def show_proxies(_: web.Request) -> web.Response:
        return web.json_response(proxies())

    async def show_dump(request: web.Request) -> web.Response:
        wanted = request.query.get("proxyID", "")
        if not wanted:
            return web.Response(status=400, text="You must provide a proxyID in the query string\n")
        found = dump(wanted)
        if found is None:
            return web.Response(status=404, text="Proxy not connected to this Pilot instance.\n")
        return web.json_response(found)

    async def show_configs(_: web.Request) -> web.Response:
        return web.json_response(configs())

    app = web.Application()
    app.router.add_get("/debug/syncz", show_proxies)
    app.router.add_get("/debug/config_dump", show_dump)
    app.router.add_get("/debug/configz", show_configs)
    app.router.add_get("/version", show_version)
    app.router.add_get("/metrics", show_metrics)
    return app
