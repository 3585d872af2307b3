"""Admission webhooks: which are asked about a write, and what their answers do.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
Mutating webhooks are asked one after the other, in the order of their configurations' names; validating ones all at
once, about what came out. Left out: `matchConditions` (CEL), and `reinvocationPolicy: IfNeeded` is as `Never`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.embedded.apiserver import patches
from labkit.embedded.apiserver.failures import Cause, StatusError
from labkit.embedded.apiserver.resources import NAMESPACES, Catalogue, Kind
from labkit.embedded.apiserver.reviews import current_user
from labkit.embedded.apiserver.selectors import LabelTest, selector_test
from labkit.embedded.apiserver.storage import Record, Storage
from labkit.embedded.apiserver.webhooks import CallFailed, WebhookClient

log = logging.getLogger(__name__)

Object = dict[str, Any]

GROUP = "admissionregistration.k8s.io"
MUTATING = f"{GROUP}/mutatingwebhookconfigurations"
VALIDATING = f"{GROUP}/validatingwebhookconfigurations"


@dataclass
class Review:
    """One write that is to be admitted."""

    operation: str
    kind: Kind
    namespace: str
    name: str
    old: Object | None
    dry_run: bool
    warnings: list[str] = field(default_factory=list)
    subresource: str = ""


@dataclass(frozen=True)
class Hook:
    """One webhook of one configuration, ready to be matched."""

    name: str
    config: Object
    namespaces: LabelTest
    objects: LabelTest

    @property
    def must_answer(self) -> bool:
        return bool(self.config.get("failurePolicy") != "Ignore")


class Admission:
    """The webhooks of a cluster. With none registered that match, a write is not delayed at all."""

    def __init__(self, storage: Storage, catalogue: Catalogue) -> None:
        self.storage = storage
        self.catalogue = catalogue
        self.client = WebhookClient(storage)
        self._hooks: dict[str, list[Hook] | None] = {MUTATING: None, VALIDATING: None}
        for resource in self._hooks:
            storage.listen(resource, lambda change: self._hooks.update({change.resource: None}))

    async def close(self) -> None:
        """Close the connections to webhooks."""
        await self.client.close()

    async def mutate(self, review: Review, obj: Object) -> Object:
        """`obj` itself, or a new object as the mutating webhooks leave it."""
        current = obj
        for hook in self._matching(MUTATING, review, obj):
            response = await self._ask(hook, review, current)
            if response.get("patch"):
                current = _patched(hook, current, response)
        return current

    async def validate(self, review: Review, obj: Object | None) -> None:
        """Raise StatusError when a validating webhook refuses."""
        hooks = self._matching(VALIDATING, review, obj)
        if hooks:
            await asyncio.gather(*(self._ask(hook, review, obj) for hook in hooks))

    # Who is asked.

    def _matching(self, resource: str, review: Review, obj: Object | None) -> list[Hook]:
        if review.kind.group == GROUP:
            return []  # webhooks are not asked about webhooks, or a broken one could never be removed
        return [hook for hook in self._all(resource) if self._concerns(hook, review, obj)]

    def _all(self, resource: str) -> list[Hook]:
        known = self._hooks[resource]
        if known is None:
            known = self._hooks[resource] = [hook for r in self.storage.records(resource) for hook in _hooks_of(r)]
        return known

    def _concerns(self, hook: Hook, review: Review, obj: Object | None) -> bool:
        if not any(rule_matches(rule, review) for rule in hook.config.get("rules") or []):
            return False
        some = obj or review.old or {}
        if review.kind.resource == NAMESPACES:
            namespace_labels: Mapping[str, str] | None = _labels_of(some)
        elif review.kind.namespaced:
            record = self.storage.get(NAMESPACES, "", review.namespace)
            namespace_labels = record.labels if record else {}
        else:
            namespace_labels = None
        if namespace_labels is not None and not hook.namespaces(namespace_labels):
            return False
        return any(hook.objects(_labels_of(each)) for each in (obj, review.old) if each is not None)

    # Asking.

    async def _ask(self, hook: Hook, review: Review, obj: Object | None) -> Object:
        """The webhook's response; empty when it failed and may. Raises StatusError when it refuses or must answer."""
        uid = str(uuid.uuid4())
        try:
            answer = await self.client.call(hook.config, _request(review, obj, uid))
            response = answer.get("response")
            if not isinstance(response, dict) or response.get("uid") != uid:
                raise CallFailed(f"expected response.uid={uid!r}")
        except CallFailed as error:
            if hook.must_answer:
                message = f'Internal error occurred: failed calling webhook "{hook.name}": {error}'
                causes = {"causes": [Cause("", "", f'failed calling webhook "{hook.name}": {error}').as_json()]}
                raise StatusError(500, "InternalError", message, causes) from None
            log.info('webhook "%s" failed and is ignored: %s', hook.name, error)
            return {}
        review.warnings += [str(warning) for warning in response.get("warnings") or []]
        if response.get("allowed") is not True:
            raise _denied(hook.name, response.get("status"))
        return response


def _hooks_of(record: Record) -> list[Hook]:
    return [
        Hook(
            hook["name"],
            hook,
            selector_test(hook.get("namespaceSelector")),
            selector_test(hook.get("objectSelector")),
        )
        for hook in record.load().get("webhooks") or []
    ]


def _labels_of(obj: Object) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}


def rule_matches(rule: Object, review: Review) -> bool:
    """Whether a rule of a webhook names this write."""
    kind = review.kind

    def named(key: str, *values: str) -> bool:
        wanted = rule.get(key) or []
        return "*" in wanted or any(value in wanted for value in values)

    scope = rule.get("scope") or "*"
    if scope != "*" and (scope == "Namespaced") != (kind.namespaced and kind.resource != NAMESPACES):
        return False
    if not (named("operations", review.operation) and named("apiGroups", kind.group)):
        return False
    if not named("apiVersions", kind.version):
        return False
    resources = rule.get("resources") or []
    if review.subresource:
        sub = review.subresource
        return any(word in resources for word in ("*/*", f"{kind.plural}/*", f"*/{sub}", f"{kind.plural}/{sub}"))
    return any(word in resources for word in ("*", "*/*", kind.plural))


def _request(review: Review, obj: Object | None, uid: str) -> Object:
    kind = review.kind
    kind_name = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    resource_name = {"group": kind.group, "version": kind.version, "resource": kind.plural}
    request: Object = {"uid": uid, "kind": kind_name, "resource": resource_name}
    request |= {"requestKind": kind_name, "requestResource": resource_name, "name": review.name}
    if review.namespace:
        request["namespace"] = review.namespace
    if review.subresource:
        request["subResource"] = request["requestSubResource"] = review.subresource
    request |= {"operation": review.operation, "userInfo": current_user.get().as_json()}
    request |= {"object": obj, "oldObject": review.old}
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": request | {"dryRun": review.dry_run, "options": {}},
    }


def _patched(hook: Hook, obj: Object, response: Object) -> Object:
    if response.get("patchType") != "JSONPatch":
        raise _broken(hook, f"unsupported patch type {response.get('patchType')!r}")
    try:
        patch = json.loads(base64.b64decode(response["patch"]))
        return patches.apply_patch(_ANY, patches.JSON_PATCH, json.loads(json.dumps(obj)), patch)
    except (binascii.Error, ValueError, TypeError) as error:
        raise _broken(hook, f"its patch cannot be read: {error}") from None
    except StatusError as failure:
        raise _broken(hook, failure.message) from None


_ANY = Kind("", "v1", "", "", model="V1Pod")


def _broken(hook: Hook, why: str) -> StatusError:
    message = f'Internal error occurred: failed calling webhook "{hook.name}": {why}'
    return StatusError(500, "InternalError", message)


def _denied(name: str, status: Any) -> StatusError:
    status = status if isinstance(status, dict) else {}
    said = status.get("message") or status.get("reason")
    denied = f'admission webhook "{name}" denied the request'
    code = status.get("code")
    return StatusError(
        code if isinstance(code, int) and 400 <= code < 600 else 400,
        str(status.get("reason") or ""),
        f"{denied}: {said}" if said else f"{denied} without explanation",
        status.get("details") if isinstance(status.get("details"), dict) else None,
    )


__all__ = ["Admission", "Review", "rule_matches"]
