"""The ways of naming a pod or a Service, and what is said when nothing has the name."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.cluster.kinds import DEPLOYMENT, NAMESPACE, POD, SERVICE, Kind
from labkit.errors import InputError
from labkit.observe.references import find_pod, find_service, names_service, split_kind
from tests.unit.observe.builders import pod

Object = dict[str, Any]


class Known:
    """A cluster of a few objects: what the functions ask of one, and no more."""

    def __init__(self, **objects: list[Object]) -> None:
        self._objects = objects

    def objects(self, kind: Kind, namespace: str | None = None, *, labels: Any = None) -> list[Object]:
        found = self._objects.get(kind.plural, [])
        here = [one for one in found if namespace in (None, one["metadata"].get("namespace"))]
        wanted = (labels or {}).items()
        return [one for one in here if all((one["metadata"].get("labels") or {}).get(k) == v for k, v in wanted)]

    def find(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        return next((one for one in self.objects(kind, namespace) if one["metadata"]["name"] == name), None)


def named(name: str, namespace: str = "", **more: Any) -> Object:
    return {"metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, **more}


def server(name: str, *, ready: bool = True, made: str = "2026-01-01T00:00:00Z", namespace: str = "shop") -> Object:
    one = pod(injected=True, ready=ready)
    one["metadata"] |= {"name": name, "namespace": namespace, "labels": {"app": "server"}, "creationTimestamp": made}
    return one


SELECTING = {"selector": {"matchLabels": {"app": "server"}}}
CLUSTER: Any = Known(
    namespaces=[named("shop"), named("b"), named("default")],
    deployments=[
        named("server", "shop", spec=SELECTING),
        named("twin", "shop", spec=SELECTING),
        named("twin", "b", spec=SELECTING),
    ],
    pods=[
        server("server-old"),
        server("server-new", made="2026-01-02T00:00:00Z"),
        server("server-starting", ready=False, made="2026-01-03T00:00:00Z"),
    ],
    services=[
        named("web", "shop", spec={"selector": {"app": "server"}}),
        named("web", "b", spec={}),
        named("only", "b", spec={}),
    ],
)


def test_the_kinds_of_the_stand_in_are_those_of_the_client() -> None:
    assert [one.plural for one in (NAMESPACE, DEPLOYMENT, POD, SERVICE)] == [
        "namespaces",
        "deployments",
        "pods",
        "services",
    ]


@pytest.mark.parametrize(
    "reference",
    [
        *("shop/server", "server.shop", "deploy/server.shop", "deployment/shop/server", "pod/shop/server-new"),
        *("server-new.shop", "server", "svc/web.shop", "service/shop/web"),
    ],
)
def test_one_pod_by_many_names(reference: str) -> None:
    assert find_pod(CLUSTER, reference)["metadata"]["name"] == "server-new", "the youngest that is ready"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("", "names nothing"),
        ("/", "names nothing"),
        ("shop/nobody", "no Deployment or pod 'nobody'"),
        ("nowhere/server", "namespace 'nowhere' does not exist"),
        ("twin", "several workloads 'twin'"),
        ("secret/shop/server", "names nothing that has a proxy"),
        ("svc/b/only", "Service b/only has no pods"),
        ("svc/nobody", "no Service 'nobody'"),
        ("b/twin", "b/twin has no pods"),
    ],
)
def test_what_names_no_pod(reference: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_pod(CLUSTER, reference)


def test_services_by_name() -> None:
    assert find_service(CLUSTER, "only")["metadata"]["namespace"] == "b"
    assert find_service(CLUSTER, "svc/web.shop")["metadata"]["namespace"] == "shop"
    with pytest.raises(InputError, match="several Services 'web': 'shop/web', 'b/web'"):
        find_service(CLUSTER, "web")
    with pytest.raises(InputError, match="namespace 'nowhere' does not exist"):
        find_service(CLUSTER, "nowhere/web")


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        ("shp/server", "shop"),
        ("shop/servr", "shop/server"),
        ("twn", "twin"),
        ("svc/shp/web", "shop"),
        ("svc/webb", "web"),
    ],
)
def test_a_name_that_is_nearly_right_is_named(reference: str, meant: str) -> None:
    find = find_service if names_service(reference) else find_pod
    with pytest.raises(InputError) as caught:
        find(CLUSTER, reference)
    assert caught.value.next_step.startswith(f"Did you mean {meant!r}? Look at lab.")


def test_nothing_is_guessed_where_no_name_is_near() -> None:
    for reference in ("elsewhere/server", "shop/database", "svc/shop/database"):
        with pytest.raises(InputError) as caught:
            (find_service if names_service(reference) else find_pod)(CLUSTER, reference)
        assert caught.value.next_step.startswith("Look at lab.")


def test_kinds_that_are_named() -> None:
    assert split_kind("svc/shop/web") == ("svc", "shop/web")
    assert split_kind("shop/web") == ("", "shop/web")
    assert names_service("service/web") and not names_service("pod/web") and not names_service("svc")
    for wrong in (None, 5, "svc/", "a/b/c"):
        with pytest.raises(InputError):
            split_kind(wrong)  # type: ignore[arg-type]
