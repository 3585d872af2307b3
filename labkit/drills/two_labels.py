"""Two labels of one namespace that say opposite things of injection."""

from labkit.checks.expecting import answered, has_mode
from labkit.course.acts import apply, label, restart, run
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, PAGE, VISITS, broken
from labkit.outcomes import Outcome

NAME = "two-labels"

DRILL = Drill(
    name=NAME,
    title="Injected, says the label; 1/1, says the pod",
    story=(
        "The namespace callers is labelled with the mesh's revision, and its pods were made anew afterwards. Still "
        f"callers/curl has no sidecar, and {PAGE} resets its connection. visits stays STRICT."
    ),
    world=VISITS,
    breaks=run(
        label("callers", {"istio-injection": "disabled"}),
        lambda lab: lab.label_namespace("callers", {"istio.io/rev": lab.mesh_status().revision or "default"}),
        restart("callers/curl"),
        apply(broken(NAME)),
    ),
    healed=(answered(CALLER, PAGE, by=Outcome.MTLS), has_mode("visits", "STRICT")),
    repair=run(label("callers", {"istio-injection": None}), restart("callers/curl")),
    shortest="kubectl label namespace callers istio-injection-; kubectl rollout restart deployment/curl -n callers",
    cause=(
        "istio-injection=disabled stood beside istio.io/rev, from before the mesh had revisions. istio-injection wins "
        "whatever it says, so no webhook felt concerned. And pods get a sidecar only when they are made."
    ),
    hints=(
        "lab.namespaces() shows all labels. Which of them speak about injection?",
        "Two labels fight, and one of them always wins. Take away the one that nobody meant, and make a new pod.",
    ),
)
