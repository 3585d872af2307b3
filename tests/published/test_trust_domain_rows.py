"""The SAN prefixes a workload accepts: pilot/pkg/security/authn/utils/utils.go and the rows of its tests."""

from __future__ import annotations

import pytest

from labkit.policy import trust_domain_san_prefixes

# id, trust domain, aliases, trust domains of further CA certificates, prefixes
ROWS = [
    ("empty config", "", (), (), ()),
    ("plain list", "td", ("alias1", "alias2"), (), ("td", "alias1", "alias2")),
    ("sequential duplicates", "td", ("td", "a", "a"), (), ("td", "a")),
    ("mixed duplicates", "td", ("a", "td", "b", "a"), (), ("td", "a", "b")),
    ("from CA certificates", "td", ("a",), ("ca1", "a", "ca2", "ca1"), ("td", "a", "ca1", "ca2")),
]


@pytest.mark.parametrize(("domain", "aliases", "further", "expected"), [pytest.param(*r[1:], id=r[0]) for r in ROWS])
def test_prefixes(domain: str, aliases: tuple[str, ...], further: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert trust_domain_san_prefixes(domain, aliases, further) == tuple(f"spiffe://{one}/" for one in expected)
