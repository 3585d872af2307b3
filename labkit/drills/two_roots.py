"""The middle of a rotation: clients of the old root and of the new one, and a gateway that trusts one of them."""

from typing import Any

from labkit.course.acts import apply, run
from labkit.drills.expecting import visited
from labkit.drills.model import Drill
from labkit.drills.places import CA, DOOR, SHOP, broken, shop_secret

NAME = "two-roots"
NEW = "example.com-new"


def _mint(lab: Any) -> None:
    ca = lab.mint_ca(CA)
    ca.server("shop.example.com")
    ca.client("partner")
    lab.mint_ca(NEW).client("renewed-partner")
    lab.mint_ca("stranger.org").client("stranger")


DRILL = Drill(
    name=NAME,
    title="The root is being replaced, and half of the partners are out",
    story=(
        f"The authority behind {SHOP} gets a new root: example.com-new follows example.com. renewed-partner, whose "
        "certificate is of the new root, is let in; partner, who still has one of the old, is out since this morning. "
        "Both have to get in until all are renewed, and stranger never."
    ),
    world=DOOR,
    breaks=run(_mint, shop_secret(NEW), apply(broken(NAME))),
    healed=(
        visited(SHOP, client="partner"),
        visited(SHOP, client="renewed-partner"),
        visited(SHOP, client="stranger", status=None),
    ),
    repair=shop_secret(CA, NEW),
    shortest=(
        "lab.tls_secret('shop-credential', lab.minted('shop.example.com'), [lab.minted('example.com'), "
        "lab.minted('example.com-new')], 'istio-system'): cat both roots into one file, then kubectl create secret"
    ),
    cause=(
        "The root was swapped in one step. A rotation has three: trust both roots, renew every certificate, and only "
        "then forget the old root. The roots stand one below the other in cacert. So do those of cacerts."
    ),
    hints=(
        "Who signed the certificates of those who are in, and of those who are out? lab.minted('partner').",
        "How many authorities can one cacert hold? lab.tls_secret takes a list of them.",
    ),
)
