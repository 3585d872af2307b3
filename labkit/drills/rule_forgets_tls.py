"""A DestinationRule that sends plaintext to a STRICT server."""

from labkit.checks.expecting import answered, has_mode, keeps
from labkit.course.acts import apply
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, PAGE, VISITS, broken, repaired
from labkit.outcomes import Outcome

NAME = "rule-forgets-tls"

DRILL = Drill(
    name=NAME,
    title="A limit for connections went out, and everything says 503",
    story=(
        f"callers/curl and visits both have sidecars, and still every request to {PAGE} ends in 503 since this "
        "morning's rollout: STRICT for the namespace, and a limit for connections. Both were asked for, so both stay."
    ),
    world=VISITS,
    breaks=apply(broken(NAME)),
    healed=(
        answered(CALLER, PAGE, by=Outcome.MTLS),
        has_mode("visits", "STRICT"),
        keeps("destinationrule", "visits", "visits", "spec", "trafficPolicy", "connectionPool"),
    ),
    repair=apply(repaired(NAME)),
    shortest=(
        "kubectl patch destinationrule visits -n visits --type json "
        """-p '[{"op": "remove", "path": "/spec/trafficPolicy/tls"}]'"""
    ),
    cause=(
        "The DestinationRule said tls.mode DISABLE, so clients with sidecars sent plaintext, and the STRICT server cut "
        "it off. The caller's own proxy said 503 with connection termination (UC). Without tls, auto mTLS decides."
    ),
    hints=(
        "Who says 503? Read the body, and lab.explain('callers/curl', 'visits/visits', 8080): what does each side do?",
        "PeerAuthentication says what a server takes. Another kind says what clients send. lab.describe(...)",
    ),
)
