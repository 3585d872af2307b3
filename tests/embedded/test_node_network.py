"""How the programs of a pod find each other: names, ports, localhost, redirection. Without Envoy: plain sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from labkit.embedded.addresses import captured_ip, inside_ip
from labkit.embedded.apiclient import CONFIGMAPS, NAMESPACES
from tests.embedded.node_world import NodeWorld, is_ready, node_world, shell

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEB = {"name": "web", "image": "python", "args": ["-m", "http.server", "80"], "ports": [{"containerPort": 80}]}

GET = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).status)"

# What istio-init leaves for the node.
REDIRECT = """echo '{"inbound_port": 15006, "outbound_port": 15001, "uid": 1337}' > "$POD_NET/redirect.json" """

LISTEN = "import socket; s = socket.create_server((sys.argv[1], int(sys.argv[2]))); print(*s.getsockname()[:2])"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world() -> AsyncIterator[NodeWorld]:
    async with node_world() as running:
        probe = {"readinessProbe": {"httpGet": {"path": "/", "port": 80}}}
        await running.create("server", {**WEB, **probe}, shell("side", "sleep 1000"))
        await running.create("client", shell("main", "sleep 1000"))
        await running.create(
            "captured",
            shell("app", "sleep 1000"),
            shell("istio-proxy", "sleep 1000"),
            init=(shell("istio-init", REDIRECT),),
        )
        for name in ("server", "client", "captured"):
            await running.until(name, is_ready)
        yield running


async def address(world: NodeWorld, name: str) -> str:
    return str((await world.pod(name))["status"]["podIP"])


async def python(world: NodeWorld, pod: str, container: str, code: str, *arguments: str):
    return await world.exec(pod, container, "python", "-c", f"import sys\n{code}", *arguments)


async def test_port_80_of_a_pod_is_reached_without_privileges(world: NodeWorld):
    url = f"http://{await address(world, 'server')}/"
    assert (await python(world, "client", "main", GET, url)).stdout == "200\n"
    curl = await world.exec("client", "main", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url)
    assert (curl.stdout, curl.code) == ("200", 0)


async def test_a_port_where_nobody_listens_is_refused(world: NodeWorld):
    url = f"http://{await address(world, 'server')}:81/"
    assert "Connection refused" in (await python(world, "client", "main", GET, url)).stderr
    assert (await world.exec("client", "main", "curl", "-sS", url)).code == 7


async def test_localhost_is_the_pod_and_not_the_machine(world: NodeWorld):
    assert (await python(world, "server", "side", GET, "http://localhost/")).stdout == "200\n"
    assert (await world.exec("server", "side", "curl", "-sSf", "http://127.0.0.1/")).code == 0
    assert "Connection refused" in (await python(world, "client", "main", GET, "http://localhost/")).stderr
    assert (await world.exec("client", "main", "curl", "-sS", "http://127.0.0.1/")).code == 7


@pytest.mark.parametrize("host", ["", "0.0.0.0", "localhost", "::"])
async def test_listening_anywhere_means_the_pods_address(world: NodeWorld, host: str):
    code = LISTEN.replace(")));", ")), family=socket.AF_INET6);") if host == "::" else LISTEN
    result = await python(world, "client", "main", code, host, "443")
    pod = await address(world, "client")
    assert result.stdout.replace("::ffff:", "") == f"{pod} 20443\n"


async def test_any_free_port_stays_any_free_port(world: NodeWorld):
    host, port = (await python(world, "client", "main", LISTEN, "", "0")).stdout.split()
    assert host == await address(world, "client")
    assert int(port) != 20000  # port 0, moved up like a low port


async def test_a_service_is_known_by_its_names_and_no_others(world: NodeWorld):
    cluster_ip = await world.service("shop", 80)
    code = "import socket; print(socket.gethostbyname(sys.argv[1]))"
    for name in ("shop", "shop.default", "shop.default.svc", "shop.default.svc.cluster.local."):
        found = await python(world, "client", "main", code, name)
        for _ in range(50):  # the node writes the names a moment later
            if found.code == 0:
                break
            found = await python(world, "client", "main", code, name)
        assert found.stdout == f"{cluster_ip}\n"
    unknown = await python(world, "client", "main", GET, "http://nowhere.default.svc.cluster.local/")
    assert "Name or service not known" in unknown.stderr


async def test_a_redirected_pod_listens_inside_and_calls_services_through_its_proxy(world: NodeWorld):
    cluster_ip = await world.service("bank", 80)
    pod = await address(world, "captured")
    assert (await python(world, "captured", "app", LISTEN, "", "8080")).stdout == f"{inside_ip(pod)} 8080\n"
    # Whoever listens where its proxy would is called; nobody else has this address.
    call = (
        "import socket, _socket\n"
        "proxy = _socket.socket(); proxy.bind((sys.argv[2], 20080)); proxy.listen()\n"
        "s = socket.create_connection((sys.argv[1], 80), timeout=5); print(*s.getpeername(), s.getsockname()[0])"
    )
    result = await python(world, "captured", "app", call, cluster_ip, captured_ip(pod, cluster_ip))
    assert result.stdout == f"{captured_ip(pod, cluster_ip)} 20080 {pod}\n"
    curlrc = (await world.exec("captured", "app", "sh", "-c", "cat $CURL_HOME/.curlrc")).stdout
    assert f'"bank:80:{captured_ip(pod, cluster_ip)}:20080"' in curlrc
    assert f'"localhost:15021:{pod}:15021"' in curlrc
    assert f'"localhost::{inside_ip(pod)}:"' in curlrc


async def test_the_user_of_the_proxy_is_exempt_from_redirection(world: NodeWorld):
    cluster_ip = await world.service("exempt", 80)
    show = "import json, os; print(json.load(open(os.environ['POD_HOSTS']))['redirected'])"
    assert (await python(world, "captured", "istio-proxy", show)).stdout == "False\n"
    curlrc = (await world.exec("captured", "istio-proxy", "sh", "-c", "cat $CURL_HOME/.curlrc")).stdout
    assert f'"exempt:80:{cluster_ip}:20080"' in curlrc


async def test_a_pod_that_is_not_redirected_knows_no_proxy(world: NodeWorld):
    hosts = json.loads((await world.exec("client", "main", "sh", "-c", "cat $POD_HOSTS")).stdout)
    assert hosts["redirected"] is False and hosts["proxy_ports"] == []


async def test_under_registry_only_a_redirected_pod_meets_its_proxy_whatever_it_calls(world: NodeWorld):
    pod = await address(world, "captured")
    api = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "aks-istio-system"}}
    await world.api.create(NAMESPACES, api)
    call = (
        "import socket, _socket\n"
        "proxy = _socket.socket(); proxy.setsockopt(1, 2, 1); proxy.bind((sys.argv[1], 15001)); proxy.listen()\n"
        "s = socket.create_connection(('unknown.example.invalid', 443), timeout=5); print(*s.getpeername())"
    )
    # The twin first: by itself the name leads nowhere.
    assert "Name or service not known" in (await python(world, "client", "main", call, "127.0.0.1")).stderr
    before = await python(world, "captured", "app", call, pod)
    assert before.stdout == "" and "gaierror" in before.stderr
    settings = {"mesh": "outboundTrafficPolicy:\n  mode: REGISTRY_ONLY\n"}
    # Wherever istiod lives, its settings are beside it.
    metadata = {"name": "istio", "namespace": "aks-istio-system"}
    await world.api.create(
        CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": settings}
    )
    result = await python(world, "captured", "app", call, pod)
    for _ in range(50):  # the node writes it a moment later
        if result.code == 0:
            break
        result = await python(world, "captured", "app", call, pod)
    assert result.stdout == f"{pod} 15001\n"
    curlrc = (await world.exec("captured", "app", "sh", "-c", "cat $CURL_HOME/.curlrc")).stdout
    assert curlrc.endswith(f'connect-to = "::{pod}:15001"\n')
    exempt = (await world.exec("captured", "istio-proxy", "sh", "-c", "cat $CURL_HOME/.curlrc")).stdout
    assert "15001" not in exempt.splitlines()[-1]
