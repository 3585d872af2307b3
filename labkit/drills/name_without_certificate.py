"""A rule on identities, met by a caller that sends plaintext."""

from labkit.checks.expecting import answered, keeps
from labkit.course.acts import apply, delete
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, OUTSIDE, PAGE, VISITS, broken
from labkit.outcomes import Outcome

NAME = "name-without-certificate"

DRILL = Drill(
    name=NAME,
    title="403, although its name is on the list",
    story=(
        "visits lets in the identity of callers/curl and nobody else. The name in the rule is spelled right, and the "
        f"caller has its sidecar and its certificate. Still {PAGE} tells it 403. The rule stays."
    ),
    world=VISITS,
    breaks=apply(broken(NAME)),
    healed=(
        answered(CALLER, PAGE, by=Outcome.MTLS),
        answered(OUTSIDE, PAGE, status=403),
        keeps("authorizationpolicy", "visits-callers", "visits", "spec", "rules", 0, "from"),
    ),
    repair=delete("destinationrule/visits-readable", "callers"),
    shortest="kubectl delete destinationrule visits-readable -n callers",
    cause=(
        "A DestinationRule in the caller's namespace switched its TLS off. The namespace visits is PERMISSIVE, so the "
        "plaintext was let in, but it carries no certificate: the caller has no name, and no rule on names matches."
    ),
    hints=(
        "403 means that the connection stood. As whom did the caller come? Look at lab.explain(...) or the access log.",
        "Is the request carried by mTLS? If not: who told this client to send plaintext?",
    ),
)
