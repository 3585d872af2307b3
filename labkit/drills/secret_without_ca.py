"""A MUTUAL gateway whose Secret does not say whom to trust."""

from typing import Any

from labkit.checks.expecting import keeps
from labkit.course.acts import apply, run
from labkit.drills.expecting import visited
from labkit.drills.model import Drill
from labkit.drills.places import CA, DOOR, SHOP, broken, shop_secret

NAME = "secret-without-ca"


def _mint(lab: Any) -> None:
    ca = lab.mint_ca(CA)
    ca.server("shop.example.com")
    ca.client("partner")


DRILL = Drill(
    name=NAME,
    title="The door that asks for certificates takes none",
    story=(
        f"{SHOP} is for partners alone: the Gateway says MUTUAL, the Secret stands beside the gateway, and the "
        "partner's certificate is good. The partner is turned away like everybody else. "
        "Try lab.visit('https://shop.example.com/', trust=lab.minted('example.com'), client=lab.minted('partner'))."
    ),
    world=DOOR,
    breaks=run(_mint, shop_secret(), apply(broken(NAME))),
    healed=(
        visited(SHOP, client="partner"),
        visited(SHOP, status=None),
        keeps("gateway", "shop", "visits", "spec", "servers", 0, "tls", "credentialName"),
    ),
    repair=shop_secret(CA),
    shortest=(
        "lab.tls_secret('shop-credential', lab.minted('shop.example.com'), lab.minted('example.com'), 'istio-system'), "
        "which is kubectl create secret generic with --from-file=cacert=... beside cert and key"
    ),
    cause=(
        "MUTUAL needs to know which authority clients come from: the key cacert (or ca.crt) in the same Secret, or a "
        "Secret of the same name with -cacert behind it. There was neither, so the gateway could verify nobody."
    ),
    hints=(
        "Which keys has the Secret? kubectl describe secret shop-credential -n istio-system shows names, not values.",
        "cert and key are what the server shows. Which third key says whom it trusts?",
    ),
)
