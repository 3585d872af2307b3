"""portLevelMtls with the port of the Service, where that of the container is meant."""

from labkit.checks.expecting import answered, refused
from labkit.course.acts import apply
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, OUTSIDE, PAGE, VISITS, broken, repaired
from labkit.outcomes import Outcome

NAME = "port-of-the-service"
URL = "http://visits-metrics.visits:9090/metrics"

DRILL = Drill(
    name=NAME,
    title="The exception for the monitoring has no effect",
    story=(
        f"The policy visits says STRICT, with an exception for the metrics at {URL}. default/curl-outside asks exactly "
        "there, and is reset nevertheless. All other ports have to stay closed to it."
    ),
    world=VISITS,
    breaks=apply(broken(NAME)),
    healed=(
        answered(OUTSIDE, URL, by=Outcome.PLAINTEXT),
        refused(OUTSIDE, PAGE),
        answered(CALLER, PAGE, by=Outcome.MTLS),
    ),
    repair=apply(repaired(NAME)),
    shortest=(
        "kubectl patch peerauthentication visits -n visits --type merge "
        """-p '{"spec": {"portLevelMtls": {"9090": null, "9102": {"mode": "DISABLE"}}}}'"""
    ),
    cause=(
        "portLevelMtls names the port on which the workload listens (9102). 9090 is the Service's port, which the "
        "server's proxy never sees: clients have translated it already."
    ),
    hints=(
        "At which port does the request arrive? Compare lab.services('visits') with the ports of the pod.",
        "A PeerAuthentication is read by the server's proxy. Which port does that one listen on?",
    ),
)
