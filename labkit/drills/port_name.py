"""A port whose name says TCP, so that rules on HTTP never match."""

from labkit.checks.expecting import answered, keeps
from labkit.course.acts import apply
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, PAGE, VISITS, broken, repaired
from labkit.outcomes import Outcome

NAME = "port-name"

DRILL = Drill(
    name=NAME,
    title="GET is allowed, and GET is cut off",
    story=(
        f"visits may be read by everybody: a policy allows the method GET. Since its Service was tidied up, a GET of "
        f"{PAGE} by callers/curl breaks off without an answer; there is not even a 403."
    ),
    world=VISITS,
    breaks=apply(broken(NAME)),
    healed=(
        answered(CALLER, PAGE, by=Outcome.MTLS),
        answered(CALLER, PAGE, data="x", status=403),
        keeps("authorizationpolicy", "visits-read", "visits", "spec", "rules", 0, "to"),
    ),
    repair=apply(repaired(NAME)),
    shortest=(
        "kubectl patch service visits -n visits --type json "
        """-p '[{"op": "replace", "path": "/spec/ports/0/name", "value": "http"}]'"""
    ),
    cause=(
        "The port was called tcp-web, and Istio reads the protocol from the beginning of that name. As TCP, requests "
        "have no method, so the rule never matched, and what no ALLOW matches is cut. As HTTP it would be a 403."
    ),
    hints=(
        "Compare what a forbidden HTTP request looks like (403) with what you see. At which level was it refused?",
        "lab.describe('visits/visits') says what the mesh takes each port for. Where does it read that from?",
    ),
)
