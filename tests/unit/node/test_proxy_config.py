"""From Services and EndpointSlices to the node proxy's configuration: kube-proxy's rules."""

import pytest

from labkit.embedded.node.proxy_config import translate

BLOCK = 80


def service(name="web", ip="127.80.0.10", port=80, namespace="shop", **spec):
    ports = [{"name": "http", "port": port, "protocol": "TCP"}]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": ip, "ports": ports, **spec}}


def endpoint_slice(*endpoints, name="web", namespace="shop", port=8080, port_name="http", kind="IPv4"):
    return {
        "metadata": {
            "name": f"{name}-x",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": kind,
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


def endpoint(address="127.80.1.1", **conditions):
    return {"addresses": [address], "conditions": conditions}


def listeners(services, slices):
    config = translate(services, slices, block=BLOCK)
    return {listener["name"]: tuple(listener["address"]["socket_address"].values()) for listener in config.listeners}


def endpoints(services, slices, name="shop/web:80"):
    config = translate(services, slices, block=BLOCK)
    (cluster,) = [cluster for cluster in config.clusters if cluster["name"] == name]
    return [
        tuple(e["endpoint"]["address"]["socket_address"].values())
        for locality in cluster["load_assignment"]["endpoints"]
        for e in locality["lb_endpoints"]
    ]


def test_a_service_listens_on_its_address_with_low_ports_moved_up():
    found = listeners(
        [service(), service("api", "127.80.0.11", 5000)],
        [endpoint_slice(endpoint()), endpoint_slice(endpoint(), name="api")],
    )
    assert found == {"shop/web:80": ("127.80.0.10", 20080), "shop/api:5000": ("127.80.0.11", 5000)}


def test_a_service_without_endpoints_has_no_listener_so_that_it_refuses():
    assert listeners([service()], []) == {}
    assert listeners([service()], [endpoint_slice(endpoint(ready=False))]) == {}
    assert listeners([service()], [endpoint_slice(endpoint(ready=True))]) == {"shop/web:80": ("127.80.0.10", 20080)}


@pytest.mark.parametrize(
    "skipped",
    [
        pytest.param(service(ip="None"), id="headless"),
        pytest.param(service(ip="", type="ExternalName"), id="external name"),
        pytest.param(service(ip="10.0.0.1"), id="address of another network"),
        pytest.param(service(ip="127.81.0.10"), id="address of another cluster"),
        pytest.param(service("kubernetes", "127.80.0.1", 443, "default"), id="the API server's own"),
        pytest.param(service(ports=[{"name": "http", "port": 53, "protocol": "UDP"}]), id="UDP"),
    ],
)
def test_what_is_not_served(skipped):
    name, namespace = skipped["metadata"]["name"], skipped["metadata"]["namespace"]
    assert listeners([skipped], [endpoint_slice(endpoint(), name=name, namespace=namespace)]) == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            [endpoint(ready=True), endpoint("127.80.2.1")], ["127.80.1.1", "127.80.2.1"], id="absent is ready"
        ),
        pytest.param([endpoint(ready=False), endpoint("127.80.2.1", ready=True)], ["127.80.2.1"], id="ready alone"),
        pytest.param(
            [endpoint(ready=False, serving=True, terminating=True), endpoint("127.80.2.1", ready=True)],
            ["127.80.2.1"],
            id="leaving ones are not needed",
        ),
        pytest.param(
            [endpoint(ready=False, serving=True, terminating=True)], ["127.80.1.1"], id="leaving ones are all there is"
        ),
        pytest.param([endpoint(ready=False, serving=False, terminating=True)], [], id="leaving and not serving"),
    ],
)
def test_which_endpoints_get_traffic(given, expected):
    assert [address for address, _ in endpoints([service()], [endpoint_slice(*given)])] == expected


def test_endpoints_belong_to_the_port_of_the_same_name():
    two = service(ports=[{"name": "http", "port": 80}, {"name": "admin", "port": 9000}])
    slices = [endpoint_slice(endpoint()), endpoint_slice(endpoint(), port=9901, port_name="admin")]
    assert endpoints([two], slices, "shop/web:80") == [("127.80.1.1", 8080)]
    assert endpoints([two], slices, "shop/web:9000") == [("127.80.1.1", 9901)]


def test_endpoints_of_another_namespace_do_not_count():
    assert endpoints([service()], [endpoint_slice(endpoint(), namespace="elsewhere")]) == []


def test_low_target_ports_move_up_in_the_cluster_and_not_outside():
    slices = [endpoint_slice(endpoint(), endpoint("10.1.2.3"), port=80)]
    assert endpoints([service()], slices) == [("10.1.2.3", 80), ("127.80.1.1", 20080)]


def test_an_endpoint_of_another_family_is_left_out():
    assert endpoints([service()], [endpoint_slice(endpoint("::1"), kind="IPv6")]) == []


def test_a_change_of_endpoints_touches_its_own_envoy_cluster_and_no_listener():
    services = [service(), service("api", "127.80.0.11")]
    api = endpoint_slice(endpoint(), name="api")
    one = translate(services, [api, endpoint_slice(endpoint())], block=BLOCK)
    two = translate(services, [api, endpoint_slice(endpoint(), endpoint("127.80.2.1"))], block=BLOCK)
    changed = [a["name"] for a, b in zip(one.clusters, two.clusters, strict=True) if a != b]
    assert changed == ["shop/web:80"]
    assert one.listeners == two.listeners


def test_the_order_of_objects_changes_nothing():
    services = [service(), service("api", "127.80.0.11")]
    slices = [endpoint_slice(endpoint("127.80.2.1"), endpoint()), endpoint_slice(endpoint(), name="api")]
    assert translate(services, slices, block=BLOCK) == translate(services[::-1], slices[::-1], block=BLOCK)


def test_two_ports_with_one_address_on_the_wire_are_told_and_the_first_is_served():
    both = service(ports=[{"name": "http", "port": 80}, {"name": "odd", "port": 20080}])
    config = translate([both], [endpoint_slice(endpoint())], block=BLOCK)
    assert config.conflicts == ("shop/web:20080",)
    assert [listener["name"] for listener in config.listeners] == ["shop/web:80"]


def test_session_affinity_keeps_a_client_with_one_endpoint():
    (sticky,) = translate([service(sessionAffinity="ClientIP")], [], block=BLOCK).clusters
    (plain,) = translate([service()], [], block=BLOCK).clusters
    assert (sticky["lb_policy"], plain["lb_policy"]) == ("MAGLEV", "ROUND_ROBIN")
