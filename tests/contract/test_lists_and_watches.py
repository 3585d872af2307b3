"""Lists in pages and by selector; watches from a version, their bookmarks, their end."""

from __future__ import annotations

import time

import pytest

from tests.contract.world import Api, Watcher, configmap, pod


@pytest.fixture
def path(api: Api, namespace: str) -> str:
    """The ConfigMaps a to e; a, c, e are labelled odd."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for i, name in enumerate("abcde"):
        body = configmap(name)
        body["metadata"]["labels"] = {"n": str(i), "set": "contract"} | ({"odd": "true"} if i % 2 == 0 else {})
        api.post(path, body).expect(201)
    return path


def _names(answer: object) -> str:
    return "".join(item["metadata"]["name"] for item in answer["items"])  # type: ignore[index]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("set=contract,odd", "ace"),
        ("set=contract,!odd", "bd"),
        ("set==contract,n!=0", "bcde"),
        ("n in (1, 2)", "bc"),
        ("set,n notin (1,2)", "ade"),
        ("n=7", ""),
        ("set=contract,odd=true,n=4", "e"),
    ],
)
def test_label_selectors(api: Api, path: str, selector: str, names: str) -> None:
    assert _names(api.get(path, labelSelector=selector).expect(200)) == names


@pytest.mark.parametrize("selector", ["a=b=c", "in (a)", "a,,b", "=b", "a in b"])
def test_selectors_that_cannot_be_read_are_refused(api: Api, path: str, selector: str) -> None:
    api.get(path, labelSelector=selector).expect(400, "BadRequest")


def test_field_selectors(api: Api, path: str) -> None:
    assert _names(api.get(path, fieldSelector="metadata.name=b").expect(200)) == "b"
    assert _names(api.get(path, labelSelector="set", fieldSelector="metadata.name!=b").expect(200)) == "acde"


def test_a_field_without_an_index_cannot_be_selected(api: Api, path: str) -> None:
    refused = api.get(path, fieldSelector="data.x=1")
    refused.expect(400, "BadRequest")
    assert "field label not supported: data.x" in refused.message


def test_a_list_comes_in_pages(api: Api, path: str) -> None:
    first = api.get(path, labelSelector="set", limit=2).expect(200)
    assert _names(first) == "ab"
    second = api.get(path, labelSelector="set", limit=2, **{"continue": first["metadata"]["continue"]}).expect(200)
    assert _names(second) == "cd"
    last = api.get(path, labelSelector="set", limit=2, **{"continue": second["metadata"]["continue"]}).expect(200)
    assert _names(last) == "e"
    assert not last["metadata"].get("continue")


def test_a_made_up_continue_token_is_refused(api: Api, path: str) -> None:
    api.get(path, limit=2, **{"continue": "made-up"}).expect(400, "BadRequest")


def test_a_list_of_all_namespaces_holds_this_one(api: Api, path: str, namespace: str) -> None:
    items = api.get("/api/v1/configmaps", labelSelector="set=contract").expect(200)["items"]
    assert {item["metadata"]["namespace"] for item in items} >= {namespace}


def test_a_list_knows_its_kind_and_version(api: Api, path: str) -> None:
    answer = api.get(path).expect(200)
    assert (answer["kind"], answer["apiVersion"]) == ("ConfigMapList", "v1")
    assert answer["metadata"]["resourceVersion"].isdigit()


# Watches.


def test_a_watch_from_a_version_sees_what_comes_after(api: Api, path: str) -> None:
    version = api.get(path).json["metadata"]["resourceVersion"]
    watcher = Watcher(api, path, resourceVersion=version, labelSelector="set")
    api.patch(f"{path}/a", {"data": {"x": "1"}}).expect(200)
    api.delete(f"{path}/b").expect(200)
    body = configmap("f")
    body["metadata"]["labels"] = {"set": "contract"}
    api.post(path, body).expect(201)
    seen = [(kind, obj["metadata"]["name"]) for kind, obj in watcher.wait_for(3)]
    assert seen == [("MODIFIED", "a"), ("DELETED", "b"), ("ADDED", "f")]


def test_a_watch_without_a_version_begins_with_what_is_there(api: Api, path: str) -> None:
    events = Watcher(api, path, labelSelector="set").wait_for(5)
    assert {kind for kind, _ in events} == {"ADDED"}
    assert "".join(sorted(obj["metadata"]["name"] for _, obj in events)) == "abcde"


def test_an_event_carries_the_version_to_go_on_from(api: Api, path: str) -> None:
    version = api.get(path).json["metadata"]["resourceVersion"]
    api.patch(f"{path}/a", {"data": {"x": "1"}}).expect(200)
    api.patch(f"{path}/b", {"data": {"x": "1"}}).expect(200)
    (first,) = Watcher(api, path, resourceVersion=version).wait_for(1)
    rest = Watcher(api, path, resourceVersion=first[1]["metadata"]["resourceVersion"]).wait_for(1)
    assert [obj["metadata"]["name"] for _, obj in rest] == ["b"]


def test_the_event_of_a_deletion_carries_the_version_of_the_deletion(api: Api, path: str) -> None:
    before = api.get(f"{path}/a").json["metadata"]["resourceVersion"]
    version = api.get(path).json["metadata"]["resourceVersion"]
    api.delete(f"{path}/a").expect(200)
    ((kind, obj),) = Watcher(api, path, resourceVersion=version).wait_for(1)
    assert kind == "DELETED"
    assert int(obj["metadata"]["resourceVersion"]) > int(before)


def test_objects_enter_and_leave_the_view_of_a_selector(api: Api, path: str) -> None:
    version = api.get(path).json["metadata"]["resourceVersion"]
    watcher = Watcher(api, path, resourceVersion=version, labelSelector="odd=true")
    api.patch(f"{path}/b", {"metadata": {"labels": {"odd": "true"}}}).expect(200)
    api.patch(f"{path}/a", {"metadata": {"labels": {"odd": None}}}).expect(200)
    api.patch(f"{path}/d", {"data": {"never": "seen"}}).expect(200)
    api.patch(f"{path}/c", {"data": {"x": "1"}}).expect(200)
    seen = [(kind, obj["metadata"]["name"]) for kind, obj in watcher.wait_for(3)]
    assert seen == [("ADDED", "b"), ("DELETED", "a"), ("MODIFIED", "c")]


def test_a_watch_of_one_object_by_name(api: Api, path: str) -> None:
    version = api.get(path).json["metadata"]["resourceVersion"]
    watcher = Watcher(api, path, resourceVersion=version, fieldSelector="metadata.name=b")
    api.patch(f"{path}/a", {"data": {"x": "1"}}).expect(200)
    api.patch(f"{path}/b", {"data": {"x": "1"}}).expect(200)
    assert [obj["metadata"]["name"] for _, obj in watcher.wait_for(1)] == ["b"]


def test_a_watch_ends_after_its_time(api: Api, path: str) -> None:
    start = time.monotonic()
    assert list(api.watch(path, seconds=1, resourceVersion=api.get(path).json["metadata"]["resourceVersion"])) == []
    assert 0.5 < time.monotonic() - start < 10


def test_initial_events_end_with_a_marked_bookmark(api: Api, path: str) -> None:
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    events = Watcher(api, path, labelSelector="set", **query).wait_for(6)
    assert [kind for kind, _ in events] == ["ADDED"] * 5 + ["BOOKMARK"]
    assert events[-1][1]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_version_that_is_no_number_is_refused(api: Api, path: str) -> None:
    api.get(path, watch="1", resourceVersion="yesterday").expect(400)


def test_a_watch_in_one_namespace_does_not_see_another(api: Api, path: str) -> None:
    version = api.get(path).json["metadata"]["resourceVersion"]
    watcher = Watcher(api, path, resourceVersion=version)
    api.post("/api/v1/namespaces/default/configmaps", {"metadata": {"generateName": "contract-"}}).expect(201)
    api.patch(f"{path}/a", {"data": {"x": "1"}}).expect(200)
    assert [obj["metadata"]["name"] for _, obj in watcher.wait_for(1)] == ["a"]


# Tables.


def test_pods_as_a_table_have_the_columns_people_know(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    body = pod("p")
    body["spec"]["schedulerName"] = "nobody"
    api.post(path, body).expect(201)
    (row,) = api.table(path)
    assert list(row)[:5] == ["Name", "Ready", "Status", "Restarts", "Age"]
    assert (row["Name"], row["Ready"], row["Status"]) == ("p", "0/1", "Pending")


def test_a_table_of_nothing_has_columns_and_no_rows(api: Api, namespace: str) -> None:
    assert api.table(f"/api/v1/namespaces/{namespace}/pods") == []
