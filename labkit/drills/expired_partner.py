"""A client certificate that has expired."""

from typing import Any

from labkit.course.acts import apply, run
from labkit.drills.expecting import visited
from labkit.drills.model import Drill
from labkit.drills.places import CA, DOOR, SHOP, broken, shop_secret

NAME = "expired-partner"


def _mint(lab: Any) -> None:
    ca = lab.mint_ca(CA)
    ca.server("shop.example.com")
    ca.client("partner", expired=True)
    ca.client("other-partner")


def _renew(lab: Any) -> None:
    lab.minted(CA).client("partner")


DRILL = Drill(
    name=NAME,
    title="One partner is locked out since last week",
    story=(
        f"Two partners use {SHOP} with client certificates. other-partner gets in, partner does not, and nothing was "
        "changed in the mesh for months. Nobody may get in without a certificate. "
        "Try lab.visit('https://shop.example.com/', trust=lab.minted('example.com'), client=lab.minted('partner'))."
    ),
    world=DOOR,
    breaks=run(_mint, shop_secret(CA), apply(broken(NAME))),
    healed=(
        visited(SHOP, client="partner"),
        visited(SHOP, client="other-partner"),
        visited(SHOP, status=None),
    ),
    repair=_renew,
    shortest="lab.minted('example.com').client('partner'): a new certificate for the client. No kubectl, no restart.",
    cause=(
        "The partner's certificate had expired. The handshake said so (alert certificate expired), the gateway did its "
        "work, and nothing in the mesh was wrong. Watch when certificates end, not only those of the mesh."
    ),
    hints=(
        "curl prints the alert of the other side. Which one is it?",
        "lab.minted('partner') shows the certificate. Whose turn is it to renew it?",
    ),
)
