"""A readiness probe that nobody rewrites, under STRICT."""

from typing import Any

from labkit.checks.expecting import answered, has_mode, keeps
from labkit.course.acts import apply, run
from labkit.drills.expecting import rolled_out
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, PAGE, VISITS, broken
from labkit.outcomes import Outcome

NAME = "probe-is-refused"
ANNOTATION = "sidecar.istio.io/rewriteAppHTTPProbers"


def _annotate(lab: Any, value: str | None) -> object:
    template = {"metadata": {"annotations": {ANNOTATION: value}}}
    return lab.cluster.patch("deployment", "visits", {"spec": {"template": template}}, "visits")


def _off(lab: Any) -> object:
    return _annotate(lab, "false")


def _on(lab: Any) -> object:
    _annotate(lab, None)
    return lab.wait_until_ready("visits/visits")


DRILL = Drill(
    name=NAME,
    title="The rollout of visits does not finish",
    story=(
        "visits is STRICT, and a rollout of today does not come to its end: its new pod runs and never gets ready. The "
        "old pod still serves. The readiness probe is asked for by the platform team, and STRICT stays."
    ),
    world=VISITS,
    breaks=run(apply(broken(NAME)), _off),
    healed=(
        rolled_out("visits", "visits"),
        answered(CALLER, PAGE, by=Outcome.MTLS),
        has_mode("visits", "STRICT"),
        keeps("deployment", "visits", "visits", "spec", "template", "spec", "containers", 0, "readinessProbe"),
    ),
    repair=_on,
    shortest=(
        'kubectl patch deployment visits -n visits --type merge -p \'{"spec": {"template": {"metadata": '
        '{"annotations": {"sidecar.istio.io/rewriteAppHTTPProbers": null}}}}}\''
    ),
    cause=(
        "The kubelet has no certificate, so its HTTP probe meets STRICT like any stranger. Injection therefore turns "
        "such probes to the sidecar's agent, and an annotation of the new pods had switched that off."
    ),
    hints=(
        "lab.events('visits') has the words of the probe. Who asks, and in which form?",
        "Compare the annotations of the old pod and the new one: lab.describe_pod(...).",
    ),
)
