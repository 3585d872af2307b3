"""Client certificates: one of the cluster's own authority is a user, nobody else's is, and the token stays enough."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from labkit.embedded.apiserver import ApiServer, identity
from labkit.embedded.blocks import claim_block
from labkit.embedded.paths import ClusterPaths
from labkit.pki import CertificateAuthority

REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    paths = ClusterPaths(f"cert-{uuid.uuid4().hex[:6]}").make()
    server = ApiServer(paths=paths, block=claim_block(paths))
    await server.start()
    yield server
    await server.stop()


def authority(server: ApiServer) -> CertificateAuthority:
    pki = server.paths.pki_dir
    return CertificateAuthority.from_pem((pki / "ca.crt").read_bytes(), (pki / "ca.key").read_bytes())


async def who_am_i(server: ApiServer, tmp_path: Path, leaf: Any, headers: dict[str, str] | None = None) -> Any:
    """The user that the server takes the bearer of `leaf` for, or the status of the refusal."""
    context = ssl.create_default_context(cafile=server.paths.pki_dir / "ca.crt")
    if leaf:
        (tmp_path / "client.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
        context.load_cert_chain(tmp_path / "client.pem")
    url = f"https://{server.address}:{server.port}{WHO}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, ssl=context, json=REVIEW, headers=headers) as response,
    ):
        answer = await response.json(content_type=None)
        return answer["status"]["userInfo"] if response.status == 201 else response.status


def token(server: ApiServer) -> dict[str, str]:
    return {"Authorization": "Bearer " + (server.paths.pki_dir / "admin-token").read_text()}


async def test_the_subject_is_the_user_and_its_organizations_are_the_groups(server: ApiServer, tmp_path: Path) -> None:
    leaf = authority(server).issue(common_name="jane", organizations=["dev", "ops"], server=False)
    assert await who_am_i(server, tmp_path, leaf) == {
        "username": "jane",
        "groups": ["dev", "ops", "system:authenticated"],
    }


async def test_who_shows_no_certificate_needs_the_token(server: ApiServer, tmp_path: Path) -> None:
    assert (await who_am_i(server, tmp_path, None, token(server)))["username"] == "kubernetes-admin"
    assert await who_am_i(server, tmp_path, None) == 401


async def test_a_certificate_without_a_name_is_nobodys(server: ApiServer, tmp_path: Path) -> None:
    leaf = authority(server).issue(dns_names=["jane"], server=False)
    assert await who_am_i(server, tmp_path, leaf) == 401
    assert (await who_am_i(server, tmp_path, leaf, token(server)))["username"] == "kubernetes-admin"


async def test_another_authoritys_certificate_is_refused(server: ApiServer, tmp_path: Path) -> None:
    # Even one that bears the same name as the cluster's own authority.
    other = CertificateAuthority.self_signed(f"labkit-{server.paths.name}-ca", organization="labkit")
    with pytest.raises(aiohttp.ClientError):
        await who_am_i(server, tmp_path, other.issue(common_name="jane", server=False))


async def test_an_expired_certificate_is_refused(server: ApiServer, tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=2)
    leaf = authority(server).issue(common_name="jane", ttl=timedelta(hours=1), not_before=long_ago, server=False)
    with pytest.raises(aiohttp.ClientError):
        await who_am_i(server, tmp_path, leaf)


async def test_a_servers_certificate_is_no_clients(server: ApiServer, tmp_path: Path) -> None:
    leaf = authority(server).issue(common_name="jane", client=False)
    with pytest.raises(aiohttp.ClientError):
        await who_am_i(server, tmp_path, leaf)


def test_a_connection_does_not_outlive_its_certificate() -> None:
    shown = {"subject": ((("commonName", "jane"),),), "notAfter": "Jan  1 00:00:00 2030 GMT"}
    end = ssl.cert_time_to_seconds(shown["notAfter"])
    user = identity.certificate_user(shown, end - 1)
    assert user is not None
    assert user.name == "jane"
    assert identity.certificate_user(shown, end + 1) is None
