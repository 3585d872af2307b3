"""A namespace that was labelled after its pods were made."""

from labkit.checks.expecting import answered, has_mode
from labkit.course.acts import apply, inject, label, restart, run
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, PAGE, VISITS, broken
from labkit.outcomes import Outcome

NAME = "labelled-too-late"

DRILL = Drill(
    name=NAME,
    title="The namespace joined the mesh an hour ago",
    story=(
        "The namespace callers asks for sidecars since an hour ago, with the right label and no other. callers/curl "
        f"is still reset when it calls {PAGE}. visits stays STRICT."
    ),
    world=VISITS,
    breaks=run(
        label("callers", {"istio.io/rev": None, "istio-injection": None}),
        restart("callers/curl"),
        inject("callers"),
        apply(broken(NAME)),
    ),
    healed=(answered(CALLER, PAGE, by=Outcome.MTLS), has_mode("visits", "STRICT")),
    repair=restart("callers/curl"),
    shortest="kubectl rollout restart deployment/curl -n callers",
    cause=(
        "Injection happens when a Pod is made. The label came later, so the running pod never met the webhook. "
        "Nothing has to be changed but the pod."
    ),
    hints=(
        "lab.pods('callers'): how many containers are ready, and how old is the pod?",
        "When does the webhook see a pod?",
    ),
)
