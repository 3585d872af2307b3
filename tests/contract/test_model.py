"""Random requests, and a simple model that says what each has to do.

The model keeps, for each object, the few things that a client can change and who owns them; it shares no code with
the server. What the server answers, what it holds afterwards and what its watchers see has to agree with the model.
`LABKIT_MODEL_EXAMPLES=500 pytest tests/contract/test_model.py` looks harder, and each time elsewhere.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.contract.world import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Answer, Api, crd, wait_until

Object = dict[str, Any]

EXAMPLES = int(os.environ.get("LABKIT_MODEL_EXAMPLES", "0"))
PROFILE = settings(
    max_examples=EXAMPLES or 100,
    stateful_step_count=40,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

NAMES = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from(["x", "y", "z"])
VALUES = st.sampled_from(["1", "2", "3"])
MAPS = st.dictionaries(KEYS, VALUES, max_size=3)
FINALIZERS = st.lists(st.sampled_from(["example.com/p", "example.com/q"]), unique=True, max_size=2)
DRY = st.sampled_from([False, False, False, True])
UNIT, APPLIER = "unit", "applier"
RUNS = itertools.count()

Field = tuple[str, str]


@dataclass
class Thing:
    """What the model knows of one object."""

    labels: dict[str, str]
    data: dict[str, str]
    finalizers: list[str] = field(default_factory=list)
    uid: str = ""
    version: int = 0
    generation: int = 1
    leaving: bool = False
    owners: dict[Field, set[str]] = field(default_factory=dict)

    def fields(self) -> dict[Field, str]:
        """The fields that can be owned, and their values."""
        return {("labels", k): v for k, v in self.labels.items()} | {("data", k): v for k, v in self.data.items()}

    def content(self) -> Any:
        return self.labels, self.data, self.finalizers, self.leaving

    def written_by_unit(self, new: Thing) -> None:
        """Take over the content of `new`: who changes a field owns it."""
        before = self.fields()
        if self.data != new.data:
            self.generation += 1
        self.labels, self.data, self.finalizers = dict(new.labels), dict(new.data), list(new.finalizers)
        after = self.fields()
        changed = {path for path, value in after.items() if before.get(path) != value}
        self.owners = {path: {UNIT} if path in changed else self.owners[path] for path in after}

    def conflicts(self, config: Thing) -> bool:
        """Whether the applier would change what somebody else owns."""
        mine = self.fields()
        return any(
            path in mine and mine[path] != value and self.owners[path] - {APPLIER}
            for path, value in config.fields().items()
        )

    def applied(self, config: Thing) -> None:
        """Server-side apply, forced or without conflicts."""
        mine, wanted, data = self.fields(), config.fields(), dict(self.data)
        for path in list(self.owners):
            if path not in wanted:
                self.owners[path].discard(APPLIER)
                if not self.owners[path]:
                    del self.owners[path], getattr(self, path[0])[path[1]]
        for path, value in wanted.items():
            same = mine.get(path) == value
            self.owners[path] = {APPLIER} | (self.owners.get(path, set()) if same else set())
            getattr(self, path[0])[path[1]] = value
        if self.data != data:
            self.generation += 1


@dataclass
class Seen:
    """One change, as a watch tells it: the thing before and after."""

    name: str
    before: Thing | None
    after: Thing | None


@dataclass(frozen=True)
class Selector:
    """The text of a label selector, and its meaning."""

    text: str
    meaning: Callable[[dict[str, str]], bool]


SELECTORS = (
    Selector("", lambda labels: True),
    Selector("x=1", lambda labels: labels.get("x") == "1"),
    Selector("x!=1", lambda labels: labels.get("x") != "1"),
    Selector("y", lambda labels: "y" in labels),
    Selector("!y", lambda labels: "y" not in labels),
    Selector("x in (1,2),z", lambda labels: labels.get("x") in ("1", "2") and "z" in labels),
    Selector("y notin (1)", lambda labels: labels.get("y") != "1"),
)
SELECTOR = st.sampled_from(SELECTORS)


class Machine(RuleBasedStateMachine):
    """Clients of one collection. Subclasses say of which."""

    api: Api
    path: str
    kind: Object
    section: str
    unconditional: bool
    strategic: bool
    counted: bool

    def __init__(self) -> None:
        super().__init__()
        self.run = f"r{next(RUNS)}"
        self.things: dict[str, Thing] = {}
        self.history: list[Seen] = []
        self.starts: list[tuple[int, int]] = []
        """Versions that a watch may start at, and how much of the history they have behind them."""
        self.pages: list[tuple[str, int, list[tuple[str, Any]]]] = []
        """Lists under way: the token, the version, and what is still to come."""

    # Helpers.

    def name(self, short: str) -> str:
        return f"{self.run}-{short}"

    def own(self, selector: Selector) -> str:
        return ",".join(filter(None, [f"run={self.run}", selector.text]))

    def manifest(self, short: str, thing: Thing, **meta: Any) -> Object:
        metadata = {"name": self.name(short), "labels": thing.labels, **meta}
        if thing.finalizers:
            metadata["finalizers"] = thing.finalizers
        return {**self.kind, "metadata": metadata, self.section: thing.data}

    def thing(self, labels: dict[str, str], data: dict[str, str], finalizers: list[str] | None = None) -> Thing:
        return Thing({**labels, "run": self.run}, dict(data), list(finalizers or []))

    def url(self, short: str) -> str:
        return f"{self.path}/{self.name(short)}"

    def agree(self, obj: Object, thing: Thing) -> None:
        """The object that the server shows is the thing of the model."""
        meta = obj["metadata"]
        shown = (
            meta.get("labels") or {},
            obj.get(self.section) or {},
            meta.get("finalizers") or [],
            "deletionTimestamp" in meta,
        )
        assert shown == thing.content()
        assert meta["uid"] == thing.uid
        if self.counted:
            extra = 1 if thing.leaving else 0  # the beginning of a deletion counts, too
            assert meta["generation"] == thing.generation + extra
        owned = {e["manager"]: e for e in meta.get("managedFields") or []}
        for manager in (UNIT, APPLIER):
            tree = owned.get(manager, {}).get("fieldsV1", {})
            labels = set(tree.get("f:metadata", {}).get("f:labels", {})) - {"."}
            data = set(tree.get(f"f:{self.section}", {})) - {"."}
            mine = [path for path, owners in thing.owners.items() if manager in owners]
            assert labels == {f"f:{key}" for place, key in mine if place == "labels"}, (manager, tree)
            assert data == {f"f:{key}" for place, key in mine if place == "data"}, (manager, tree)

    def record(self, short: str, before: Thing | None, after: Thing | None, version: int | None = None) -> None:
        """Note a change; None for `version` where the server does not tell it."""
        self.history.append(Seen(self.name(short), copy.deepcopy(before), copy.deepcopy(after)))
        if version:
            self.starts.append((version, len(self.history)))

    def written(self, answer: Answer, short: str, new: Thing, *, dry: bool, status: int = 200) -> None:
        """A write that has to succeed: the answer shows the new state, and (unless dry) it is the state now."""
        obj = answer.expect(status)
        old = self.things.get(short)
        self.agree(obj, new if old else _with_uid(new, obj))
        if dry:
            return
        version = int(obj["metadata"]["resourceVersion"])
        if old is None:
            new.uid, new.version = obj["metadata"]["uid"], version
            self.things[short] = new
            self.record(short, None, new, version)
            return
        if new.leaving and not new.finalizers:
            del self.things[short]
            self.record(short, old, None)
            return
        if new.content() != old.content():
            assert version > old.version
        elif new.owners == old.owners:
            assert version == old.version, "nothing was changed, but a new version was made"
        new.version = version
        self.things[short] = new
        if version != old.version:
            self.record(short, old, new, version)

    # Writing.

    @initialize()
    def look(self) -> None:
        listed = self.api.get(self.path, labelSelector=f"run={self.run}").expect(200)
        self.starts.append((int(listed["metadata"]["resourceVersion"]), 0))

    @rule(short=NAMES, labels=MAPS, data=MAPS, finalizers=FINALIZERS, dry=DRY)
    def create(self, short: str, labels: Any, data: Any, finalizers: Any, dry: bool) -> None:
        new = self.thing(labels, data, finalizers)
        new.owners = {path: {UNIT} for path in new.fields()}
        answer = self.api.post(self.path, self.manifest(short, new), fieldManager=UNIT, **_dry(dry))
        if short in self.things:
            answer.expect(409, "AlreadyExists")
        else:
            self.written(answer, short, new, dry=dry, status=201)

    @rule(
        short=NAMES,
        labels=MAPS,
        data=MAPS,
        finalizers=FINALIZERS,
        version=st.sampled_from(["none", "right", "stale", "other uid"]),
        dry=DRY,
    )
    def update(self, short: str, labels: Any, data: Any, finalizers: Any, version: str, dry: bool) -> None:
        old = self.things.get(short)
        meta: Object = {}
        if old and version == "right":
            meta = {"resourceVersion": str(old.version), "uid": old.uid}
        elif old and version == "stale":
            meta = {"resourceVersion": str(old.version - 1)}
        elif old and version == "other uid":
            meta = {"resourceVersion": str(old.version), "uid": "00000000-0000-0000-0000-000000000000"}
        wanted = self.thing(labels, data, finalizers)
        body = self.manifest(short, wanted, **meta)
        answer = self.api.put(self.url(short), body, fieldManager=UNIT, **_dry(dry))
        if old is None:
            answer.expect(404 if self.unconditional else answer.status)
            assert answer.status in (404, 422)
        elif version == "none" and not self.unconditional:
            answer.expect(422, "Invalid")
        elif version in ("stale", "other uid"):
            answer.expect(409, "Conflict")
        else:
            self.changed(answer, short, old, wanted, dry=dry)

    def changed(self, answer: Answer, short: str, old: Thing, wanted: Thing, *, dry: bool) -> None:
        """An update or patch that leads to `wanted`, if a leaving object may become so."""
        if old.leaving and set(wanted.finalizers) - set(old.finalizers):
            answer.expect(422, "Invalid")
            return
        new = copy.deepcopy(old)
        new.written_by_unit(wanted)
        self.written(answer, short, new, dry=dry)

    @rule(
        short=NAMES,
        labels=st.dictionaries(KEYS, st.none() | VALUES, max_size=2),
        data=st.dictionaries(KEYS, st.none() | VALUES, max_size=2),
        finalizers=st.none() | FINALIZERS,
        strategic=st.booleans(),
        version=st.sampled_from(["none", "none", "right", "stale"]),
        dry=DRY,
    )
    def merge(
        self, short: str, labels: Any, data: Any, finalizers: Any, strategic: bool, version: str, dry: bool
    ) -> None:
        old = self.things.get(short)
        meta: Object = {"labels": labels}
        if finalizers is not None:
            meta["finalizers"] = finalizers
        if old and version != "none":
            meta["resourceVersion"] = str(old.version - (version == "stale"))
        patch = {"metadata": meta} | ({self.section: data} if data else {})
        media = STRATEGIC_PATCH if strategic else MERGE_PATCH
        answer = self.api.patch(self.url(short), patch, media, fieldManager=UNIT, **_dry(dry))
        if strategic and not self.strategic:
            answer.expect(415, "UnsupportedMediaType")
        elif old is None:
            answer.expect(404, "NotFound")
        elif version == "stale":
            answer.expect(409, "Conflict")
        else:
            wanted = self.thing(_merged(old.labels, labels), _merged(old.data, data), old.finalizers)
            if finalizers is not None:  # a merge patch replaces lists, a strategic one unites this one
                extra = [f for f in finalizers if f not in old.finalizers]
                wanted.finalizers = old.finalizers + extra if strategic else finalizers
            self.changed(answer, short, old, wanted, dry=dry)

    @rule(
        short=NAMES,
        operations=st.lists(
            st.tuples(
                st.sampled_from(["add", "replace", "remove", "test"]), st.sampled_from(["labels", "data"]), KEYS, VALUES
            ),
            min_size=1,
            max_size=3,
        ),
        dry=DRY,
    )
    def json_patch(self, short: str, operations: Any, dry: bool) -> None:
        place = {"labels": "/metadata/labels", "data": f"/{self.section}"}
        patch = [{"op": op, "path": f"{place[where]}/{key}", "value": value} for op, where, key, value in operations]
        answer = self.api.patch(self.url(short), patch, JSON_PATCH, fieldManager=UNIT, **_dry(dry))
        old = self.things.get(short)
        if old is None:
            answer.expect(404, "NotFound")
            return
        wanted = self.thing(old.labels, old.data, old.finalizers)
        for op, where, key, value in operations:
            there = getattr(wanted, where)
            empty = not getattr(old, where) and not self.counted  # there is no map to add to
            missing = key not in there and (op != "add" or empty)
            if missing or (op == "test" and there[key] != value):
                answer.expect(422, "Invalid")
                return
            if op == "remove":
                del there[key]
            elif op != "test":
                there[key] = value
        self.changed(answer, short, old, wanted, dry=dry)

    @rule(short=NAMES, labels=MAPS, data=MAPS, force=st.booleans(), dry=DRY)
    def apply(self, short: str, labels: Any, data: Any, force: bool, dry: bool) -> None:
        config = self.thing(labels, data)
        body = self.manifest(short, config)
        if not data and not self.counted:  # the empty spec of a custom resource is another than none
            del body[self.section]
        query = {"fieldManager": APPLIER, "force": str(force).lower(), **_dry(dry)}
        answer = self.api.patch(self.url(short), body, APPLY_PATCH, **query)
        old = self.things.get(short)
        if old is None:
            config.owners = {path: {APPLIER} for path in config.fields()}
            self.written(answer, short, config, dry=dry, status=201)
        elif old.conflicts(config) and not force:
            answer.expect(409, "Conflict")
        else:
            new = copy.deepcopy(old)
            new.applied(config)
            self.written(answer, short, new, dry=dry)

    @rule(
        short=NAMES,
        precondition=st.sampled_from(["none", "none", "right", "stale", "other uid"]),
        policy=st.sampled_from([None, "Background", "Foreground"]),
        dry=DRY,
    )
    def delete(self, short: str, precondition: str, policy: str | None, dry: bool) -> None:
        old = self.things.get(short)
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if policy:
            options["propagationPolicy"] = policy if not (old and old.finalizers) else "Background"
        if dry:
            options["dryRun"] = ["All"]
        if old and precondition != "none":
            options["preconditions"] = {
                "right": {"uid": old.uid, "resourceVersion": str(old.version)},
                "stale": {"resourceVersion": str(old.version - 1)},
                "other uid": {"uid": "00000000-0000-0000-0000-000000000000"},
            }[precondition]
        answer = self.api.delete(self.url(short), options)
        if old is None:
            answer.expect(404, "NotFound")
        elif precondition in ("stale", "other uid"):
            answer.expect(409, "Conflict")
        else:
            answer.expect(200)
            if not dry:
                self.left(short, old)

    def left(self, short: str, old: Thing) -> None:
        """After a successful deletion."""
        if not old.finalizers:
            # Deleted in the foreground, it is gone when the garbage collector has looked for what it owns.
            wait_until(lambda: self.api.get(self.url(short)).status == 404)
            del self.things[short]
            self.record(short, old, None)
        elif not old.leaving:
            new = copy.deepcopy(old)
            new.leaving = True
            new.version = int(self.api.get(self.url(short)).expect(200)["metadata"]["resourceVersion"])
            assert new.version > old.version
            self.things[short] = new
            self.record(short, old, new, new.version)

    @rule(selector=SELECTOR)
    def delete_some(self, selector: Selector) -> None:
        if not selector.text:
            return
        self.api.delete(self.path, labelSelector=self.own(selector)).expect(200)
        for short, thing in sorted(self.things.items()):
            if selector.meaning(thing.labels):
                self.left(short, thing)

    # Reading.

    @rule(short=NAMES)
    def get(self, short: str) -> None:
        answer = self.api.get(self.url(short))
        thing = self.things.get(short)
        if thing is None:
            answer.expect(404, "NotFound")
        else:
            obj = answer.expect(200)
            self.agree(obj, thing)
            assert int(obj["metadata"]["resourceVersion"]) == thing.version

    def matching(self, selector: Selector) -> list[tuple[str, Thing]]:
        found = [(self.name(s), t) for s, t in sorted(self.things.items()) if selector.meaning(t.labels)]
        return copy.deepcopy(found)

    @rule(selector=SELECTOR)
    def list(self, selector: Selector) -> None:
        listed = self.api.get(self.path, labelSelector=self.own(selector)).expect(200)
        self.agree_on(listed["items"], self.matching(selector))
        self.starts.append((int(listed["metadata"]["resourceVersion"]), len(self.history)))

    def agree_on(self, items: list[Object], wanted: list[tuple[str, Thing]]) -> None:
        assert [item["metadata"]["name"] for item in items] == [name for name, _ in wanted]
        for item, (_, thing) in zip(items, wanted, strict=True):
            self.agree(item, thing)
            assert int(item["metadata"]["resourceVersion"]) == thing.version

    @rule(selector=SELECTOR, limit=st.integers(1, 3))
    def first_page(self, selector: Selector, limit: int) -> None:
        listed = self.api.get(self.path, labelSelector=self.own(selector), limit=limit).expect(200)
        wanted = self.matching(selector)
        self.page(listed, wanted, limit, self.own(selector))

    def page(self, listed: Object, wanted: list[tuple[str, Thing]], limit: int, text: str) -> None:
        self.agree_on(listed["items"], wanted[:limit])
        token = listed["metadata"].get("continue")
        assert bool(token) == (len(wanted) > limit)
        if token:
            self.pages.append((f"{text}|{token}", int(listed["metadata"]["resourceVersion"]), wanted[limit:]))

    @rule(limit=st.integers(1, 3))
    def next_page(self, limit: int) -> None:
        """All pages show the state of the first, whatever was written since."""
        if not self.pages:
            return
        both, version, wanted = self.pages.pop()
        text, token = both.split("|", 1)
        listed = self.api.get(self.path, labelSelector=text, limit=limit, **{"continue": token}).expect(200)
        assert int(listed["metadata"]["resourceVersion"]) == version
        self.page(listed, wanted, limit, text)

    @rule(selector=SELECTOR, place=st.integers(0, 1000))
    def watch(self, selector: Selector, place: int) -> None:
        """A watch from any version tells what happened since, as its selector sees it."""
        version, behind = self.starts[place % len(self.starts)]
        wanted = [event for seen in self.history[behind:] if (event := _event(seen, selector))]
        if not wanted:
            return
        told = []
        events = self.api.watch(self.path, resourceVersion=version, labelSelector=self.own(selector))
        last = version
        for kind, obj in events:
            meta = obj["metadata"]
            assert int(meta["resourceVersion"]) > last
            last = int(meta["resourceVersion"])
            told.append((kind, meta["name"], obj.get(self.section) or {}))
            if len(told) == len(wanted):
                break
        events.close()
        assert told == wanted

    @invariant()
    def nothing_else_is_there(self) -> None:
        listed = self.api.get(self.path, labelSelector=f"run={self.run}").expect(200)
        self.agree_on(listed["items"], self.matching(SELECTORS[0]))

    def teardown(self) -> None:
        for short in self.things:
            self.api.patch(self.url(short), {"metadata": {"finalizers": None}})
            self.api.delete(self.url(short))


def _with_uid(thing: Thing, obj: Object) -> Thing:
    return Thing(thing.labels, thing.data, thing.finalizers, uid=obj["metadata"]["uid"], owners=thing.owners)


def _dry(dry: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry else {}


def _merged(old: dict[str, str], patch: dict[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in {**old, **patch}.items() if value is not None}


def _event(seen: Seen, selector: Selector) -> tuple[str, str, dict[str, str]] | None:
    was = seen.before is not None and selector.meaning(seen.before.labels)
    now_is = seen.after is not None and selector.meaning(seen.after.labels)
    if now_is and seen.after:
        return "MODIFIED" if was else "ADDED", seen.name, seen.after.data
    return ("DELETED", seen.name, seen.before.data) if was and seen.before else None


def machine_of(api: Api, path: str, kind: Object, **traits: Any) -> type[Machine]:
    """The machine for one collection."""
    return type("Clients", (Machine,), {"api": api, "path": path, "kind": kind, **traits})


def test_config_maps_are_as_the_model_says(api: Api, namespace: str) -> None:
    traits = {"section": "data", "unconditional": True, "strategic": True, "counted": False}
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    run_state_machine_as_test(machine_of(api, path, kind, **traits), settings=PROFILE)


def test_custom_resources_are_as_the_model_says(api: Api, namespace: str) -> None:
    group = f"{namespace}.example.com"
    path = f"/apis/{group}/v1/namespaces/{namespace}/widgets"
    definition = api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd(group)).expect(201)
    try:
        wait_until(lambda: api.get(path).status == 200)
        traits = {"section": "spec", "unconditional": False, "strategic": False, "counted": True}
        kind = {"apiVersion": f"{group}/v1", "kind": "Widget"}
        run_state_machine_as_test(machine_of(api, path, kind, **traits), settings=PROFILE)
    finally:
        name = definition["metadata"]["name"]
        api.delete(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")


# The model's twin: a server that answers wrongly is caught.


def test_a_server_that_forgets_a_label_is_caught(api: Api, namespace: str) -> None:
    class Forgetful(Api):
        def request(self, method: str, path: str, body: Any = None, *, headers: Any = None) -> Answer:
            answer = super().request(method, path, body, headers=headers)
            if method == "GET" and path.split("?")[0].endswith("-a") and answer.status == 200:
                obj = answer.json
                obj["metadata"]["labels"].pop("x", None)
                return Answer(answer.status, answer.headers, json.dumps(obj).encode())
            return answer

    path = f"/api/v1/namespaces/{namespace}/configmaps"
    traits = {"section": "data", "unconditional": True, "strategic": True, "counted": False}
    forgetful = machine_of(Forgetful(api.kubeconfig), path, {"apiVersion": "v1", "kind": "ConfigMap"}, **traits)
    quick = settings(PROFILE, phases=[p for p in PROFILE.phases if p.name != "shrink"], print_blob=False)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(forgetful, settings=quick)


def test_a_continue_token_of_another_making_is_refused(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    odd = base64.urlsafe_b64encode(b'{"v":"meta.k8s.io/v1","rv":"x"}').decode()
    api.get(path, limit=1, **{"continue": odd}).expect(400, "BadRequest")
