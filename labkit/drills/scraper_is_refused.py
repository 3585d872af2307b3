"""A scraper without a sidecar, refused by STRICT."""

from labkit.checks.expecting import answered, has_mode, refused
from labkit.course.acts import apply
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, METRICS, OUTSIDE, PAGE, VISITS, broken, repaired
from labkit.outcomes import Outcome

NAME = "scraper-is-refused"

DRILL = Drill(
    name=NAME,
    title="The targets of the monitoring are down",
    story=(
        f"default/curl-outside stands for a Prometheus that nobody may inject. It used to read {METRICS}; now its "
        "target is down. The page on port 8080 is for the mesh alone, and has to stay so."
    ),
    world=VISITS,
    breaks=apply(broken(NAME)),
    healed=(
        answered(OUTSIDE, METRICS, by=Outcome.PLAINTEXT),
        refused(OUTSIDE, PAGE),
        answered(CALLER, PAGE, by=Outcome.MTLS),
        has_mode("visits", "STRICT"),
    ),
    repair=apply(repaired(NAME)),
    shortest=f"kubectl apply -f {repaired(NAME)}",
    cause=(
        "STRICT holds for every port of the workload, and a scraper without a sidecar has no certificate. A policy for "
        "the workload opens the port with metrics alone. Scraping the sidecar's merged page on 15020 is another way."
    ),
    hints=(
        "Which exit code does the scraper see, and which policy decides on port 9102? lab.effective_mtls('visits').",
        "portLevelMtls makes an exception for one port. It needs a selector, and it stands beside a mode for the rest.",
    ),
)
