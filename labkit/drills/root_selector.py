"""A selector in the root namespace, where a PeerAuthentication's is ignored."""

from labkit.checks.expecting import answered, has_mode, refused
from labkit.course.acts import apply, apply_to_mesh
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, OUTSIDE, PAGE, VISITS, broken, repaired
from labkit.outcomes import Outcome

NAME = "root-selector"

DRILL = Drill(
    name=NAME,
    title="The security team's policy reaches nobody",
    story=(
        "The security team keeps its policies together, in the mesh's root namespace. Its visits-strict selects "
        f"app: visits, and those pods carry that label. Still default/curl-outside gets the page at {PAGE}. Other "
        "namespaces have to stay as they are."
    ),
    world=VISITS,
    breaks=apply_to_mesh(broken(NAME, "root/strict.yaml")),
    healed=(
        refused(OUTSIDE, PAGE),
        answered(CALLER, PAGE, by=Outcome.MTLS),
        has_mode("callers", "PERMISSIVE"),
    ),
    repair=apply(repaired(NAME)),
    shortest=f"kubectl apply -f {repaired(NAME)}",
    cause=(
        "In the root namespace a PeerAuthentication with a selector is ignored altogether. A policy for one workload "
        "stands in the workload's own namespace. (An AuthorizationPolicy is another matter: its selector counts.)"
    ),
    hints=(
        "lab.effective_mtls('visits') names the policy that decides. Is it the one of the security team?",
        "The labels are right. Which places does a server look at for policies with a selector?",
    ),
)
