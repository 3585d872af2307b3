"""What changes concern whom, in which order it is written, and that nothing is written twice."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from labkit.embedded.controlplane.authority import Certificates
from labkit.embedded.controlplane.delivery import Delivery
from labkit.embedded.controlplane.pushing import Pusher
from labkit.embedded.controlplane.state import State
from labkit.embedded.wire import RENEW_CONNECTIONS
from labkit.pki import CertificateAuthority, describe_certificate
from tests.unit.controlplane.objects import make_pod, make_policy, make_service, make_slice, make_state

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class RecordingDelivery(Delivery):
    """A Delivery that also remembers the order of what it wrote."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.order: list[str] = []

    def write_text(self, path: Path, text: str) -> bool:
        written = super().write_text(path, text)
        if written:
            self.order.append(str(path.relative_to(self.root)))
        return written

    def taken(self) -> list[str]:
        order, self.order = self.order, []
        return order


class Clock:
    """A clock that a test sets."""

    now = NOON

    def __call__(self) -> datetime:
        return self.now


class World:
    """A pusher with all that it needs."""

    def __init__(self, state: State, root: Path, ttl: timedelta = timedelta(hours=24)) -> None:
        self.state = state
        self.delivery = RecordingDelivery(root)
        self.clock = Clock()
        authority = CertificateAuthority.self_signed(not_before=NOON - timedelta(days=1))
        self.certificates = Certificates(authority, self.delivery, ttl)
        self.pusher = Pusher(state, self.delivery, self.certificates, clock=self.clock)

    def push(self) -> list[str]:
        """Push what changed; the files that were written, in order."""
        asyncio.run(self.pusher.push(self.state.take_dirt()))
        return self.delivery.taken()

    def read(self, path: str) -> Any:
        return json.loads((self.delivery.root / path).read_text())

    def certificate(self, pod: str) -> Any:
        secret = self.read(f"{pod}/sds/default.json")["resources"][0]
        return describe_certificate(secret["tls_certificate"]["certificate_chain"]["inline_string"])


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A server and a client in `foo`, a bystander in `bar`, all with sidecars, and everything pushed."""
    pods = (make_pod(), make_pod("sleep", row=6, ports=()), make_pod("bystander", "bar", row=7))
    made = World(make_state(*pods, services=(make_service(),)), tmp_path)
    made.push()
    return made


def test_a_second_push_writes_nothing(world: World) -> None:
    world.state.dirt.shared = True
    assert world.push() == []


def test_connections_to_a_pod_are_renewed_by_its_clients_clusters_and_nothing_else(world: World) -> None:
    clusters = ["bar/bystander/cds.json", "foo/httpbin/cds.json", "foo/sleep/cds.json"]
    pod = make_pod()
    for moment in ("2026-01-01", "2026-01-02"):
        pod["metadata"]["annotations"] = {RENEW_CONNECTIONS: moment}
        world.state.on_pod("MODIFIED", pod)
        assert sorted(world.push()) == clusters
    pod["metadata"]["annotations"]["other"] = "x"
    world.state.on_pod("MODIFIED", pod)
    assert world.push() == []


def test_a_strict_namespace_changes_the_listeners_of_its_pods_and_no_other_file(world: World) -> None:
    world.state.on_policy("ADDED", make_policy("STRICT"))
    assert world.push() == ["foo/httpbin/lds.json", "foo/sleep/lds.json"]


def test_a_policy_in_the_root_namespace_concerns_everybody(world: World) -> None:
    world.state.on_policy("ADDED", make_policy("STRICT", "istio-system"))
    assert world.push() == ["bar/bystander/lds.json", "foo/httpbin/lds.json", "foo/sleep/lds.json"]


def test_a_policy_with_a_selector_concerns_those_whom_it_selects_and_selected(world: World) -> None:
    world.state.on_policy("ADDED", make_policy("STRICT", selector={"app": "httpbin"}))
    assert world.state.affected(world.state.dirt) == {("foo", "httpbin")}
    assert world.push() == ["foo/httpbin/lds.json"]
    world.state.on_policy("MODIFIED", make_policy("STRICT", selector={"app": "sleep"}))
    assert world.state.affected(world.state.dirt) == {("foo", "httpbin"), ("foo", "sleep")}
    assert world.push() == ["foo/httpbin/lds.json", "foo/sleep/lds.json"]
    world.state.on_policy("DELETED", make_policy("STRICT", selector={"app": "sleep"}))
    assert world.push() == ["foo/sleep/lds.json"]


def test_what_a_policy_changes_for_clients_reaches_all_of_them_and_later_changes_too(world: World) -> None:
    """Only the namespace of the policy is looked at again, and what was seen of it before is not forgotten."""
    off = make_policy("PERMISSIVE", selector={"app": "httpbin"}, ports={8080: "DISABLE"})
    world.state.on_policy("ADDED", off)
    assert "bar/bystander/cds.json" in world.push()
    world.state.on_service("ADDED", make_service("other", column=30, selector={"app": "none"}))
    world.push()
    world.state.on_policy("DELETED", off)
    assert "bar/bystander/cds.json" in world.push()


def test_what_is_left_out_after_a_policy_is_what_would_not_have_changed(world: World) -> None:
    """Clusters are not made again for a PeerAuthentication; making everything again writes nothing more."""
    for ports in ({}, {8080: "STRICT"}, {9999: "PERMISSIVE"}):
        world.state.on_policy("MODIFIED", make_policy("PERMISSIVE", selector={"app": "httpbin"}, ports=ports))
        assert "foo/httpbin/cds.json" not in world.push()
        world.state.dirt.shared = True
        assert world.push() == []


def test_after_a_failed_push_everybody_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> list[str]:
        world.delivery.taken()
        running = asyncio.create_task(world.pusher.run())
        with monkeypatch.context() as broken:
            broken.setattr(world.certificates, "ensure", lambda *_: 1 / 0)
            world.state.on_policy("ADDED", make_policy("STRICT"))
            world.pusher.poke()
            await asyncio.sleep(0.05)
        assert world.delivery.taken() == []
        world.state.on_policy("ADDED", make_policy("PERMISSIVE", "bar"))
        world.pusher.poke()
        await asyncio.sleep(0.1)
        running.cancel()
        return world.delivery.taken()

    assert asyncio.run(scenario()) == ["foo/httpbin/lds.json", "foo/sleep/lds.json"]


def test_a_policy_that_changes_no_mode_writes_nothing(world: World) -> None:
    world.state.on_policy("ADDED", make_policy("PERMISSIVE"))
    assert world.push() == []


def test_clients_stop_mtls_before_a_port_turns_to_disable(world: World) -> None:
    world.state.on_policy("ADDED", make_policy("PERMISSIVE", selector={"app": "httpbin"}, ports={8080: "DISABLE"}))
    order = world.push()
    assert order.index("foo/sleep/cds.json") < order.index("foo/httpbin/lds.json")
    assert "bar/bystander/cds.json" in order, "clients are everywhere"


def test_clients_start_mtls_after_a_port_left_disable(world: World) -> None:
    policy = make_policy("PERMISSIVE", selector={"app": "httpbin"}, ports={8080: "DISABLE"})
    world.state.on_policy("ADDED", policy)
    world.push()
    world.state.on_policy("DELETED", policy)
    order = world.push()
    assert order.index("foo/sleep/cds.json") > order.index("foo/httpbin/lds.json")


def test_an_endpoint_that_gets_ready_touches_no_listener(world: World) -> None:
    world.state.on_slice("MODIFIED", make_slice(make_service(), make_pod(), ready=False))
    assert sorted(world.push()) == ["bar/bystander/cds.json", "foo/httpbin/cds.json", "foo/sleep/cds.json"]


def test_the_cluster_of_a_new_service_is_there_before_the_listener_that_names_it(world: World) -> None:
    world.state.on_service("ADDED", make_service("other", column=30, selector={"app": "none"}))
    order = [path for path in world.push() if path.startswith("foo/sleep/")]
    assert order == ["foo/sleep/cds.json", "foo/sleep/lds.json"]


def test_a_sidecar_has_four_documents_however_many_services_there_are(world: World) -> None:
    """For each of them Envoy holds one request at istiod."""
    for column in range(30, 50):
        world.state.on_service("ADDED", make_service(f"s{column}", column=column))
    world.push()
    files = [path for path in (world.delivery.root / "foo" / "sleep").rglob("*") if path.is_file()]
    assert len(files) == 4


def test_what_cannot_be_translated_does_not_end_the_control_plane(world: World) -> None:
    async def scenario() -> None:
        running = asyncio.create_task(world.pusher.run())
        world.state.on_service(
            "ADDED", {**make_service("odd", column=31), "spec": {"clusterIP": "odd", "ports": [{"port": 1}]}}
        )
        world.pusher.poke()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        world.state.on_service("DELETED", make_service("odd", column=31))
        world.state.on_policy("ADDED", make_policy("STRICT"))
        world.pusher.poke()
        while "foo/httpbin/lds.json" not in world.delivery.order:
            assert not running.done()
            await asyncio.sleep(0.001)
        running.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 5))


def test_a_deleted_pod_leaves_no_file_and_no_key(world: World) -> None:
    world.state.on_pod("DELETED", make_pod("bystander", "bar", row=7))
    world.push()
    assert sorted(path.name for path in world.delivery.root.iterdir()) == ["foo"]


def test_leftovers_of_an_istiod_before_are_removed(world: World, tmp_path: Path) -> None:
    (tmp_path / "bar" / "gone" / "sds").mkdir(parents=True)
    world.pusher.remove_leftovers()
    assert sorted(path.name for path in (tmp_path / "bar").iterdir()) == ["bystander"]


def test_a_heartbeat_of_readiness_is_no_change() -> None:
    state = make_state(make_pod())
    state.take_dirt()
    pod = make_pod()
    pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    state.on_pod("MODIFIED", pod)
    assert not state.dirt


def test_a_policy_that_cannot_be_read_is_ignored_and_the_others_count() -> None:
    state = make_state(make_pod(), policies=(make_policy("NONSENSE"), make_policy("STRICT", name="good")))
    assert [policy.name for policy in state.snapshot().policies] == ["good"]


def test_an_identity_that_becomes_known_late_reaches_the_clients() -> None:
    """The slice may arrive before the pod that it names."""
    service, pod = make_service(), make_pod()
    state = make_state(services=(service,))
    state.on_slice("MODIFIED", make_slice(service, pod))
    assert [e.workload for e in state.snapshot().endpoints["foo", "httpbin"]["http"]] == [None]
    state.on_pod("ADDED", pod)
    (endpoint,) = state.snapshot().endpoints["foo", "httpbin"]["http"]
    assert endpoint.workload and endpoint.workload.service_account == "httpbin"


def test_files_with_keys_are_for_their_owner_alone(world: World) -> None:
    assert {path.stat().st_mode & 0o777 for path in world.delivery.root.glob("*/*/sds/default.json")} == {0o600}


def test_a_certificate_is_renewed_at_half_its_life_and_not_before(world: World) -> None:
    first = world.certificate("foo/httpbin")
    world.clock.now = first.not_after - timedelta(hours=12, minutes=1)
    world.pusher.renew()
    assert world.certificate("foo/httpbin").serial == first.serial
    world.clock.now = first.not_after - timedelta(hours=11, minutes=59)
    world.pusher.renew()
    assert world.certificate("foo/httpbin").serial != first.serial


def test_a_restarted_istiod_keeps_good_certificates(world: World) -> None:
    first = world.certificate("foo/httpbin")
    again = Delivery(world.delivery.root)
    pusher = Pusher(
        world.state, again, Certificates(world.certificates.authority, again, timedelta(hours=24)), clock=world.clock
    )
    pusher.renew()
    assert world.certificate("foo/httpbin").serial == first.serial


def test_under_a_new_root_every_certificate_is_issued_anew(world: World) -> None:
    first = world.certificate("foo/httpbin")
    again = Delivery(world.delivery.root)
    stranger = CertificateAuthority.self_signed(not_before=NOON - timedelta(days=1))
    Pusher(world.state, again, Certificates(stranger, again, timedelta(hours=24)), clock=world.clock).renew()
    assert world.certificate("foo/httpbin").serial != first.serial


def test_another_service_account_means_another_certificate(world: World) -> None:
    world.state.on_pod("MODIFIED", make_pod(service_account="other"))
    world.push()
    assert world.certificate("foo/httpbin").uri_names == ("spiffe://cluster.local/ns/foo/sa/other",)
