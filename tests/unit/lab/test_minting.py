"""Minted certificates show themselves, and never a key."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.errors import InputError
from labkit.lab.minting import Minting


class Bench(Minting):
    """Minting without a cluster."""

    def __init__(self) -> None:
        self.cluster: Any = SimpleNamespace(name="embedded:bench")
        self.undone: list[Any] = []
        self._journal = SimpleNamespace(add=self.undone.append)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    return Bench()


def test_what_an_authority_signs_names_it_and_its_use(bench: Bench) -> None:
    ca = bench.mint_ca("example.com")
    server, client = ca.server("shop.example.com", "www.example.com"), ca.client("partner")
    assert ca.facts.is_ca
    assert server.facts.issuer == client.facts.issuer == ca.facts.subject
    assert server.facts.dns_names == ("shop.example.com", "www.example.com")
    assert (server.facts.usages, client.facts.usages) == (("server",), ("client",))
    assert ca.client("late", expired=True).facts.not_after < datetime.now(UTC) < client.facts.not_after


def test_no_key_is_ever_shown(bench: Bench) -> None:
    ca = bench.mint_ca("example.com")
    for paper in (ca, ca.server("shop.example.com"), ca.client("partner")):
        secret = paper.key.read_text().splitlines()[1]
        for shown in (repr(paper), str(paper), paper._repr_html_(), repr(vars(paper))):
            assert secret not in shown and "PRIVATE KEY" not in shown


def test_leaving_removes_the_files(bench: Bench) -> None:
    bench.mint_ca("example.com")
    bench.mint_ca("stranger.org")
    (undo,) = bench.undone
    undo.run()
    with pytest.raises(InputError, match="Nothing was minted"):
        bench.minted("example.com")
    assert "nothing to remove" in str(bench.forget_minted())
