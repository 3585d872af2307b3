"""A gateway's Secret that stands where the gateway does not look."""

from typing import Any

from labkit.checks.expecting import keeps
from labkit.course.acts import apply, run
from labkit.drills.expecting import visited
from labkit.drills.model import Drill
from labkit.drills.places import CA, DOOR, SECRET, SHOP, broken, shop_secret

NAME = "secret-elsewhere"


def _mint(lab: Any) -> None:
    lab.mint_ca(CA).server("shop.example.com")


DRILL = Drill(
    name=NAME,
    title="The shop's HTTPS breaks off in the handshake",
    story=(
        f"The shop is to be open at {SHOP} for everybody. Gateway, VirtualService and Secret {SECRET} are all there "
        "in the namespace visits, side by side. Whoever visits gets no further than the handshake. "
        "Try lab.visit('https://shop.example.com/', trust=lab.minted('example.com'))."
    ),
    world=DOOR,
    breaks=run(_mint, shop_secret(namespace="visits"), apply(broken(NAME))),
    healed=(visited(SHOP), keeps("gateway", "shop", "visits", "spec", "servers", 0, "tls", "credentialName")),
    repair=shop_secret(),
    shortest=(
        "lab.tls_secret('shop-credential', lab.minted('shop.example.com'), None, 'istio-system'), which is "
        "kubectl create -n istio-system secret generic shop-credential --from-file=cert=... --from-file=key=..."
    ),
    cause=(
        "credentialName is looked up in the namespace of the gateway's pod, not in that of the Gateway object. On AKS "
        "that is aks-istio-ingress."
    ),
    hints=(
        "Which certificates has the gateway? lab.proxy_config('secrets', 'istio-system/istio-ingressgateway').",
        "The Gateway is an object, the gateway is a pod. Which of them reads the Secret, and where does it run?",
    ),
)
