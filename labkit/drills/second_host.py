"""One certificate on two Gateways, and browsers that reuse a connection."""

from typing import Any

from labkit.course.acts import apply, delete, run
from labkit.drills.expecting import visited
from labkit.drills.model import Drill
from labkit.drills.places import CA, DOOR, SECRET, SHOP, broken, repaired

NAME = "second-host"
BLOG = "https://blog.example.com/"


def _prepare(lab: Any) -> object:
    server = lab.mint_ca(CA).server("shop.example.com", "*.example.com")
    return lab.tls_secret(SECRET, server, None, lab.mesh_status().namespace)


DRILL = Drill(
    name=NAME,
    title="The blog is there, and 404 in the browser",
    story=(
        f"{SHOP} and {BLOG} have a Gateway each and one certificate for *.example.com. Each answers alone. In a "
        "browser that has just shown the shop, the blog is 404. Do as the browser does, over one connection: "
        "lab.visit('https://shop.example.com/', trust=lab.minted('example.com'), authority='blog.example.com')."
    ),
    world=DOOR,
    breaks=run(_prepare, apply(broken(NAME))),
    healed=(visited(SHOP), visited(BLOG), visited(SHOP, authority="blog.example.com")),
    repair=run(apply(repaired(NAME)), delete("gateway/blog", "visits")),
    shortest=f"kubectl apply -f {repaired(NAME)}; kubectl delete gateway blog -n visits",
    cause=(
        "A browser that finds both names in one certificate sends requests for both over one connection. The gateway "
        "chose a Gateway by the name in the handshake (SNI), and that one's routes know no blog. One Gateway for the "
        "hosts of one certificate, with both VirtualServices bound to it."
    ),
    hints=(
        "When is the Gateway chosen: in the handshake, or with each request? What has the browser said by then?",
        "Both hosts share a certificate. Could they share a Gateway, too? A host may be *.example.com.",
    ),
)
