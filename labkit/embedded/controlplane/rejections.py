"""What becomes of an update that Envoy rejects: its own words, in the proxy's status, in an Event and in a condition.

Over REST Envoy says that it rejects, and not why. The why is in its log, so it is read there, through the API as
`kubectl logs` does. The Event is written on each object whose change was in the update for the first time. The
condition (`conditions.Conditions` writes it) stays until the proxy takes an update again; what an istiod before this
one wrote is inherited.

Who is to blame: the objects that changed. Rejects a proxy the next update with the same words, it is still for the
old reason. Are the words new, all that changed since its last good update are named, because any may be meant.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labkit.embedded.apiclient import EVENTS, PODS, ApiClient, ApiError, Object
from labkit.embedded.controlplane.delivery import Document
from labkit.embedded.controlplane.translation.model import Key, ObjectReference
from labkit.embedded.controlplane.xds import SECRETS, Subscription

log = logging.getLogger(__name__)

REASON = "RejectedByProxy"
COMPONENT = "istiod"
MESSAGE_LIMIT = 1024  # the API refuses longer ones
MOST_NAMED = 3
TRIES, SECRET_TRIES = 10, 2
UNKNOWN = "Envoy rejected it; its reason was not found in the log of istio-proxy"


ObjectKey = tuple[str, str, str]
"""Kind, namespace and name."""
Place = tuple[Key, str]
"""A proxy, and a kind of resource."""


def words_of(printed: str, kind: str) -> str:
    """Why Envoy rejected the last update of a kind, from its log; "" when it does not say."""
    return last_rejection(printed, kind)[1]


def last_rejection(printed: str, kind: str) -> tuple[str, str]:
    """When Envoy rejected the last update of a kind, and why."""
    pattern = rf"^\[([^]]*)\].*?REST config for /v3/discovery:{kind} rejected: (.*(?:\n(?!\[).*)*)"
    found = re.findall(pattern, printed, re.MULTILINE)
    moment, words = found[-1] if found else ("", "")
    return moment, " ".join(words.split())


async def log_of(api: ApiClient, proxy: Key) -> str:
    """The end of the log of istio-proxy, by the API."""
    namespace, name = proxy
    return await api.text(PODS.path(namespace, name, "log"), container="istio-proxy", tailLines="200")


@dataclass(frozen=True)
class Standing:
    """What a proxy rejects at this moment."""

    place: Place
    causes: tuple[ObjectReference, ...]
    suspects: tuple[ObjectReference, ...]
    """All that changed since the proxy took an update of this kind."""
    words: str

    def followed_by(self, document: Document, words: str) -> Standing:
        """The next rejection."""
        suspects = tuple(dict.fromkeys((*self.suspects, *document.because)))
        return Standing(self.place, self.causes if words == self.words else suspects, suspects, words)


class Rejections:
    """Called by the XdsServer for each update that a proxy rejects, and told (`taken`) when it runs what it shall."""

    def __init__(self, api: ApiClient) -> None:
        self.watchers: list[Callable[[Iterable[ObjectKey]], None]] = []
        """Told of the objects of which something else is to be said than before."""
        self._api = api
        self._standing: dict[Path, Standing] = {}
        self._inherited: dict[Place, dict[ObjectKey, str]] = defaultdict(dict)
        self._said: dict[Place, str] = {}
        """When Envoy said what was read last."""

    async def __call__(self, subscription: Subscription, document: Document) -> None:
        words = await self._words(subscription)
        if not words and subscription.kind == SECRETS:
            # Envoy drops what named a secret, and names it again: a subscription that begins looks like a rejection,
            # and Envoy would have said something of one.
            subscription.forgive(document)
            return
        words = subscription.error = words or UNKNOWN
        log.warning("%s: %s", shown(subscription.proxy), words)
        before = self._standing.get(subscription.path)
        if before:
            now = before.followed_by(document, words)
        else:
            now = Standing((subscription.proxy, subscription.kind), document.because, document.because, words)
        if subscription.rejected is document:
            self._stand(subscription.path, now)
        changed = set(now.causes) - set(before.causes if before else ()) | set(document.because)
        for cause in now.causes:
            if cause in changed:
                await self._record(cause, message(now, cause))

    def _stand(self, path: Path, now: Standing) -> None:
        self._standing[path] = now
        if now.causes:
            self._tell({*map(key_of, now.causes), *self._inherited.pop(now.place, ())})

    def taken(self, subscription: Subscription) -> None:
        """A proxy runs what it shall, or it has gone."""
        before = self._standing.pop(subscription.path, None)
        inherited = self._inherited.pop((subscription.proxy, subscription.kind), ())
        self._tell({*map(key_of, before.causes if before else ()), *inherited})

    def inherit(self, key: ObjectKey, left: str) -> None:
        """An object still carries what an istiod before this one wrote; it may be true."""
        if place := place_in(left):
            self._inherited[place][key] = left

    def forget_others(self, proxies: Iterable[Key]) -> None:
        """Drop what was inherited of proxies that are no longer there."""
        there = set(proxies)
        for place in [place for place in self._inherited if place[0] not in there]:
            self._tell(set(self._inherited.pop(place)))

    def messages(self, key: ObjectKey) -> list[str]:
        """What is to be said of an object, one sentence for each proxy that rejects what follows from it."""
        found = [table[key] for table in self._inherited.values() if key in table]
        for _, now in sorted(self._standing.items()):
            found += [message(now, cause) for cause in now.causes if key_of(cause) == key]
        return found

    def _tell(self, keys: set[ObjectKey]) -> None:
        for watcher in self.watchers if keys else ():
            watcher(keys)

    async def _words(self, subscription: Subscription) -> str:
        place = (subscription.proxy, subscription.kind)
        tries = SECRET_TRIES if subscription.kind == SECRETS else TRIES
        for number in range(tries):  # the log may be a moment behind
            try:
                moment, words = last_rejection(await log_of(self._api, subscription.proxy), subscription.kind)
            except ApiError as error:
                log.info("the log of %s/%s cannot be read: %s", *subscription.proxy, error.what)
                return UNKNOWN
            if words and moment != self._said.get(place):
                self._said[place] = moment
                return words
            if number < tries - 1:
                await asyncio.sleep(0.1)
        return ""

    async def _record(self, cause: ObjectReference, message: str) -> None:
        try:
            await self._api.create(EVENTS, make_event(cause, message))
        except ApiError as error:
            log.info("the event on %s %s/%s is not written: %s", cause.kind, cause.namespace, cause.name, error.what)


def key_of(reference: ObjectReference) -> ObjectKey:
    """Which object a reference names."""
    return reference.kind, reference.namespace, reference.name


def shown(proxy: Key) -> str:
    """A proxy's name as istioctl prints it."""
    return ".".join(reversed(proxy))


def message(now: Standing, cause: ObjectReference) -> str:
    """What is said of an object."""
    others = [f"{one.kind} {one.namespace}/{one.name}" for one in now.causes if one != cause]
    if len(others) > MOST_NAMED:
        others[MOST_NAMED:] = [f"{len(others) - MOST_NAMED} more"]
    blamed = " or ".join(["this", *others])
    proxy, kind = now.place
    return f"the proxy of {shown(proxy)} rejects the {kind} that follow from {blamed}: {now.words}"


def place_in(text: str) -> Place | None:
    """Which proxy and kind a message is about."""
    found = re.match(r"the proxy of (\S+)\.([^\s.]+) rejects the (\w+) that", text)
    return ((found[2], found[1]), found[3]) if found else None


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
