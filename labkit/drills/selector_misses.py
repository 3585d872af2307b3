"""A policy whose selector matches nothing."""

from labkit.checks.expecting import answered, exists, refused
from labkit.course.acts import apply
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, OUTSIDE, PAGE, VISITS, broken, repaired
from labkit.outcomes import Outcome

NAME = "selector-misses"

DRILL = Drill(
    name=NAME,
    title="STRICT is rolled out, and strangers still get in",
    story=(
        "The policy visits-strict was applied without an error, kubectl shows it, and it says STRICT. Still "
        f"default/curl-outside, which has no sidecar, gets the page at {PAGE}."
    ),
    world=VISITS,
    breaks=apply(broken(NAME)),
    healed=(
        refused(OUTSIDE, PAGE),
        answered(CALLER, PAGE, by=Outcome.MTLS),
        exists("peerauthentication", "visits-strict", "visits"),
    ),
    repair=apply(repaired(NAME)),
    shortest=(
        "kubectl patch peerauthentication visits-strict -n visits --type merge "
        """-p '{"spec": {"selector": {"matchLabels": {"app": "visits"}}}}'"""
    ),
    cause=(
        "The selector said app: visit, and the pods carry app: visits. A policy that selects nobody is valid, and "
        "istioctl analyze says nothing of it (Kiali does: KIA0004). Ask for the effective mode and its origin."
    ),
    hints=(
        "What does lab.effective_mtls('visits') say, and from which policy does it have it?",
        "Put the policy's selector beside the labels of the pod: lab.describe_pod('visits/visits').",
    ),
)
