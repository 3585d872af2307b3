"""Two policies at one level, of which the older one counts."""

from labkit.checks.expecting import answered, has_mode, refused
from labkit.course.acts import apply, delete, run
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, OUTSIDE, PAGE, VISITS, broken
from labkit.outcomes import Outcome

NAME = "older-policy-wins"

DRILL = Drill(
    name=NAME,
    title="The migration is over, but not on the wire",
    story=(
        "The namespace visits was migrated, and today the policy strict closes it for plaintext. It is there, it says "
        f"STRICT, it has no selector. default/curl-outside gets the page at {PAGE} all the same."
    ),
    world=VISITS,
    breaks=run(apply(broken(NAME, "migration.yaml")), apply(broken(NAME, "strict.yaml"))),
    healed=(
        refused(OUTSIDE, PAGE),
        answered(CALLER, PAGE, by=Outcome.MTLS),
        has_mode("visits", "STRICT"),
    ),
    repair=delete("peerauthentication/default", "visits"),
    shortest="kubectl delete peerauthentication default -n visits",
    cause=(
        "Two policies without a selector stood in one namespace. The older one counts, and the newer is dropped whole: "
        "nothing of it is merged. One namespace, one policy; change the one that is there."
    ),
    hints=(
        "kubectl get peerauthentication -n visits: how many are there at the same level?",
        "Look at their ages. What does lab.analyze() say?",
    ),
)
