"""A narrower policy that opens a STRICT namespace, and a port-forward that seems to show it and does not."""

from labkit.checks.expecting import answered, has_mode, refused
from labkit.course.acts import apply, delete
from labkit.drills.expecting import forwarded
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, OUTSIDE, PAGE, VISITS, broken
from labkit.outcomes import Outcome

NAME = "forward-proves-nothing"

DRILL = Drill(
    name=NAME,
    title="The auditor gets the page in plain HTTP",
    story=(
        "The namespace visits is STRICT. The auditor runs 'kubectl port-forward -n visits deployment/visits 8080' and "
        f"gets the page in plain HTTP; from default/curl-outside, {PAGE} answers, too. Close what is open. The support "
        "team lives on port-forward, and keeps it."
    ),
    world=VISITS,
    breaks=apply(broken(NAME)),
    healed=(
        refused(OUTSIDE, PAGE),
        answered(CALLER, PAGE, by=Outcome.MTLS),
        forwarded("visits/visits", 8080),
        has_mode("visits", "STRICT"),
    ),
    repair=delete("peerauthentication/visits", "visits"),
    shortest="kubectl delete peerauthentication visits -n visits",
    cause=(
        "A policy for the workload wins over that of its namespace, and it said PERMISSIVE. The port-forward is "
        "innocent: it enters by the pod's own localhost, past the proxy, and does so under STRICT, too. It is guarded "
        "by the rights of Kubernetes, not by the mesh."
    ),
    hints=(
        "Two ways in, two reasons. Which of them crosses the server's proxy? lab.port_forward('visits/visits', 8080)",
        "lab.effective_mtls('visits') says which policy decides for the workload.",
    ),
)
