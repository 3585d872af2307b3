"""What real proxies present, read by our own TLS client, and how long their certificates live, on a whole cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from labkit.cli import main
from labkit.cluster.forwarding import forward
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.observe.handshake import ISTIO_ALPN, WEB_ALPN, shake_hands
from labkit.observe.presented import _by_openssl
from labkit.observe.references import find_pod
from labkit.pki import CertificateAuthority, Leaf, describe_certificate
from labkit.pki.expiry import State
from tests.embedded.envoy_world import wait_for
from tests.embedded.proxy_words_world import istio, small_mesh

pytestmark = pytest.mark.timeout(120)

NAME = "certs"
GATEWAY = "istio-system/istio-ingressgateway"
SPIFFE = "spiffe://cluster.local/ns/shop/sa/default"
YEAR = timedelta(days=365)
CA = CertificateAuthority.self_signed("Shop CA")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with small_mesh(NAME, gateway=True) as lab:
        yield lab


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--cluster", f"embedded:{NAME}"])


def secured(lab: Lab, leaf: Leaf, mode: str = "SIMPLE") -> None:
    """The gateway serves shop.example over TLS with this certificate."""
    data = {"tls.crt": leaf.chain_pem.decode(), "tls.key": leaf.key_pem.decode(), "ca.crt": CA.root_pem.decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop-cert", "namespace": "istio-system"}}
    tls = {"mode": mode, "credentialName": "shop-cert"}
    servers = [{"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["shop.example"], "tls": tls}]
    gateway = istio("Gateway", "secure", {"selector": {"istio": "ingressgateway"}, "servers": servers})
    lab.apply([{**secret, "stringData": data}, gateway])


def serial(leaf: Leaf) -> str:
    return describe_certificate(leaf.cert_pem).serial


# -- what is presented


@pytest.mark.parametrize("mode", ["STRICT", "PERMISSIVE"])
def test_a_sidecar_presents_the_identity_of_its_workload(lab: Lab, mode: str) -> None:
    lab.set_mtls_mode(mode, "shop")
    found = lab.certificate("shop/server", 5000)
    held = lab.certificate_of("shop/server")
    assert found.certificate is not None and found.failure == ""
    assert (found.certificate.spiffe_id, found.certificate.serial) == (SPIFFE, held.serial)
    assert found.asks_for_certificate and found.signed_by_mesh is True
    assert found.found.handshake.version == "TLSv1.3"


def test_where_mtls_is_disabled_nothing_is_presented(lab: Lab) -> None:
    lab.set_mtls_mode("DISABLE", "shop")
    try:
        assert lab.certificate("shop/server", 5000).failure == "it does not answer in TLS"
    finally:
        lab.set_mtls_mode("STRICT", "shop")
    assert lab.certificate("legacy/old").failure == "it does not answer in TLS"
    assert "nobody listens on port 77" in lab.certificate("shop/server", 77).failure


def test_openssl_in_the_proxys_container_sees_the_same(lab: Lab) -> None:
    """The way to a sidecar on a cluster whose pods this machine does not reach."""
    pod = find_pod(lab.cluster, "shop/server")
    address = pod["status"]["podIP"]
    theirs = _by_openssl(lab.cluster, pod, address, 5000, "", ISTIO_ALPN)
    ours = lab.certificate("shop/server", 5000)
    assert ours.certificate is not None
    assert [describe_certificate(one).serial for one in theirs.chain] == [ours.certificate.serial]
    assert (theirs.version, theirs.asks_for_certificate) == ("TLSv1.3", True)
    assert _by_openssl(lab.cluster, pod, address, 15090, "", ISTIO_ALPN).failure == "it does not answer in TLS"


def test_a_gateway_presents_what_its_secret_holds(lab: Lab) -> None:
    assert lab.certificate(GATEWAY, 443).failure != ""
    leaf = CA.issue(dns_names=["shop.example"], ttl=YEAR)
    secured(lab, leaf)
    wait_for("the certificate", lambda: lab.certificate(GATEWAY, 443).certificate is not None)
    found = lab.certificate(GATEWAY, 443)
    assert found.certificate is not None
    assert found.certificate.serial == serial(leaf) and found.certificate.dns_names == ("shop.example",)
    assert found.found.server_name == "shop.example" and found.found.port == 8443
    assert (found.signed_by_mesh, found.asks_for_certificate) == (False, False)
    assert lab.certificate(GATEWAY, 443, server_name="other.example").failure != ""
    secured(lab, leaf, "MUTUAL")
    wait_for("it to ask for ours", lambda: lab.certificate(GATEWAY).asks_for_certificate)


def test_the_gateway_through_a_port_forward(lab: Lab) -> None:
    """The way to a gateway on a cluster whose pods this machine does not reach."""
    leaf = CA.issue(dns_names=["shop.example"], ttl=YEAR)
    secured(lab, leaf)
    pod = find_pod(lab.cluster, GATEWAY)
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]

    def seen() -> list[str]:
        with forward(lab.cluster.transport, name, namespace, 8443) as connection:
            found = shake_hands(connection, server_name="shop.example", alpn=WEB_ALPN)
        return [describe_certificate(one).serial for one in found.chain]

    wait_for("the certificate", lambda: seen() == [serial(leaf)])
    with forward(lab.cluster.transport, name, namespace, 9) as connection:
        assert not shake_hands(connection).chain


# -- for the eye


def test_as_openssl_shows_it(lab: Lab) -> None:
    shown = lab.openssl("shop/server", 5000)
    assert f"URI:{SPIFFE}" in shown.text and shown.text.startswith("Certificate chain\n 0 s:")
    assert "openssl s_client -connect" in shown.path and "| openssl x509 -noout -text" in shown.path
    done = run("certificate", "server", "5000", "-n", "shop", "--text")
    assert done.exit_code == 0 and f"URI:{SPIFFE}" in done.stdout
    assert describe_certificate(run("certificate", "shop/server", "--pem").stdout).spiffe_id == SPIFFE
    data = json.loads(run("certificate", "shop/server", "5000", "--json").stdout)
    assert data["uriNames"] == [SPIFFE] and data["asksForCertificate"] and data["signedByMesh"]


def test_nothing_presented_is_a_row_and_an_exit_code(lab: Lab) -> None:
    done = run("certificate", "legacy/old")
    assert done.exit_code == 1 and "none: it does not answer in TLS" in done.stdout
    assert run("certificate", "legacy/old", "--pem").exit_code == 1
    assert "Nothing was presented" in lab.openssl("legacy/old").text


# -- how long they live


def test_the_expiry_table(lab: Lab) -> None:
    found = lab.certificates("shop")
    assert [one.holder.rsplit("-", 2)[0] for one in found if one.kind == "workload"] == ["shop/client", "shop/server"]
    (root,) = [one for one in found if one.kind == "root"]
    assert root.holder == "trusted by 2 proxies" and root.certificate is not None
    assert not found.warnings
    assert found.soonest is not None and found.soonest.kind == "workload"
    secured(lab, CA.issue(dns_names=["shop.example"], ttl=YEAR))
    wait_for("the new credential", lambda: run("certificates").exit_code == 0)
    everything = run("certificates")
    assert everything.exit_code == 0, everything.output
    assert everything.stdout.startswith("HOLDER ") and "istio-system/istio-ingressgateway-" in everything.stdout
    assert "trusted by 3 proxies" in everything.stdout
    assert len(lab.certificates("legacy")) == 0


def test_a_warning_before_expiry_and_its_exit_code(lab: Lab) -> None:
    soon = CA.issue(dns_names=["shop.example"], ttl=timedelta(days=3))
    secured(lab, soon)

    def credential() -> State | None:
        return next((one.state for one in lab.certificates() if one.kind == "gateway credential"), None)

    wait_for("a warning", lambda: credential() is State.SOON)
    assert run("certificates").exit_code == 1
    mild = run("certificates", "--warn-before", "2d")
    assert mild.exit_code == 0 and "none of the others expires within 2d0h" in mild.stderr
    past = datetime.now(UTC) - timedelta(days=2)
    secured(lab, CA.issue(dns_names=["shop.example"], ttl=timedelta(days=1), not_before=past))
    wait_for("expired", lambda: credential() is State.EXPIRED)
    done = run("certificates", "--warn-before", "1h", "--json")
    assert done.exit_code == 1
    (row,) = [one for one in json.loads(done.stdout) if one["identity"] == "shop.example"]
    assert (row["state"], row["kind"]) == ("expired", "gateway credential") and row["secondsLeft"] < 0
    presented = lab.certificate(GATEWAY, 443).certificate
    assert presented is not None and presented.not_after < datetime.now(UTC), "it is presented all the same"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("certificate", "shop/nobody"), "no Deployment or pod 'nobody'"),
        (("certificate", "shop/server", "70000"), "70000 is no port"),
        (("certificates", "--warn-before", "soon"), "'soon' is no duration"),
        (("certificates", "-n", "nowhere"), "no namespace 'nowhere'"),
    ],
)
def test_wrong_questions(lab: Lab, arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr


def test_wrong_ports_in_a_notebook(lab: Lab) -> None:
    with pytest.raises(InputError, match="is no port"):
        lab.certificate("shop/server", "http")  # type: ignore[arg-type]
