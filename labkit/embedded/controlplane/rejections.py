"""What becomes of an update that Envoy rejects: its own words, in the proxy's status and in an Event.

Over REST Envoy says that it rejects, and not why. The why is in its log, so it is read there, through the API as
`kubectl logs` does. The Event is written on each object whose change was in the update for the first time.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from datetime import UTC, datetime

from labkit.embedded.apiclient import EVENTS, PODS, ApiClient, ApiError, Object
from labkit.embedded.controlplane.delivery import Document
from labkit.embedded.controlplane.translation.model import Key, ObjectReference
from labkit.embedded.controlplane.xds import Subscription

log = logging.getLogger(__name__)

REASON = "RejectedByProxy"
COMPONENT = "istiod"
MESSAGE_LIMIT = 1024  # the API refuses longer ones
UNKNOWN = "Envoy rejected it; its reason was not found in the log of istio-proxy"


def words_of(printed: str, kind: str) -> str:
    """Why Envoy rejected the last update of a kind, from its log; "" when it does not say."""
    lines = re.findall(rf"REST config for /v3/discovery:{kind} rejected: (.*(?:\n(?!\[).*)*)", printed)
    return " ".join(lines[-1].split()) if lines else ""


async def log_of(api: ApiClient, proxy: Key) -> str:
    """The end of the log of istio-proxy, by the API."""
    namespace, name = proxy
    return await api.text(PODS.path(namespace, name, "log"), container="istio-proxy", tailLines="200")


class Rejections:
    """Called by the XdsServer for each update that a proxy rejects."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def __call__(self, subscription: Subscription, document: Document) -> None:
        subscription.error = await self._words(subscription) or UNKNOWN
        proxy = ".".join(reversed(subscription.proxy))
        log.warning("%s: %s", proxy, subscription.error)
        message = f"the proxy of {proxy} rejects the {subscription.kind} that follow from this: {subscription.error}"
        for cause in document.because:
            await self._record(cause, message)

    async def _words(self, subscription: Subscription) -> str:
        for _ in range(10):  # the log may be a moment behind
            try:
                found = words_of(await log_of(self._api, subscription.proxy), subscription.kind)
            except ApiError as error:
                log.info("the log of %s/%s cannot be read: %s", *subscription.proxy, error.what)
                return ""
            if found:
                return found
            await asyncio.sleep(0.1)
        return ""

    async def _record(self, cause: ObjectReference, message: str) -> None:
        try:
            await self._api.create(EVENTS, make_event(cause, message))
        except ApiError as error:
            log.info("the event on %s %s/%s is not written: %s", cause.kind, cause.namespace, cause.name, error.what)


def make_event(about: ObjectReference, message: str) -> Object:
    """A Warning in core/v1's form, as `kubectl describe` shows it below the object."""
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about.name}.{time.time_ns():x}", "namespace": about.namespace},
        "involvedObject": {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "name": about.name,
            "namespace": about.namespace,
            "uid": about.uid,
        },
        "type": "Warning",
        "reason": REASON,
        "message": message[:MESSAGE_LIMIT],
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": "",
    }
