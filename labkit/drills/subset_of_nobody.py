"""A subset whose labels no pod carries."""

from typing import Any

from labkit.checks.expecting import answered, keeps
from labkit.course.acts import apply
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, PAGE, VISITS, broken
from labkit.outcomes import Outcome

NAME = "subset-of-nobody"
LABEL = {"spec": {"template": {"metadata": {"labels": {"version": "v1"}}}}}


def _label_pods(lab: Any) -> object:
    lab.cluster.patch("deployment", "visits", LABEL, "visits")
    return lab.wait_until_ready("visits/visits")


DRILL = Drill(
    name=NAME,
    title="No healthy upstream, and the pod is fine",
    story=(
        "The route for visits sends all requests to its stable version, v1. That is the only version there is, and its "
        f"pod is ready. callers/curl gets 503 from {PAGE}. The next release needs the route and its subset."
    ),
    world=VISITS,
    breaks=apply(broken(NAME)),
    healed=(
        answered(CALLER, PAGE, by=Outcome.MTLS),
        keeps("virtualservice", "visits", "visits", "spec", "http", 0, "route", 0, "destination", "subset"),
        keeps("destinationrule", "visits", "visits", "spec", "subsets", 0, "labels", "version"),
    ),
    repair=_label_pods,
    shortest=(
        "kubectl patch deployment visits -n visits --type merge "
        """-p '{"spec": {"template": {"metadata": {"labels": {"version": "v1"}}}}}'"""
    ),
    cause=(
        "The subset selects pods with version: v1, and the pods carried no such label. A subset without pods is a "
        "cluster without endpoints: 503, no healthy upstream (UH). mTLS was never reached."
    ),
    hints=(
        "The body of the 503 says much. Which endpoints does lab.proxy_config('endpoints', 'callers/curl') know?",
        "Put the subset's labels beside those of the pod.",
    ),
)
