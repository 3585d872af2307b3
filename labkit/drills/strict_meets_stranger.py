"""STRICT, and a client without a sidecar that has to be let in to the mesh."""

from labkit.checks.expecting import answered, has_mode
from labkit.course import World
from labkit.course.acts import apply, label, restart, run
from labkit.drills.model import Drill
from labkit.outcomes import Outcome

URL = "http://sentences.sentences:5000/"
WITHOUT = {"istio.io/rev": None, "istio-injection": None}

DRILL = Drill(
    name="strict-meets-stranger",
    title="The reports stopped this morning",
    story=(
        "The Deployment callers/curl fetches sentences for a report. Since a policy was rolled out this morning it "
        f"gets nothing: its request to {URL} breaks off. The policy has been approved, so it stays."
    ),
    world=World(applications=("sentences", "callers")),
    breaks=run(
        label("callers", WITHOUT),
        restart("callers/curl"),
        apply("manifests/drills/strict-meets-stranger/strict.yaml"),
    ),
    healed=(
        answered("callers/curl", URL, by=Outcome.MTLS),
        has_mode("sentences", "STRICT"),
    ),
    repair=run(lambda lab: lab.label_namespace("callers", lab.mesh_status().injection_label), restart("callers/curl")),
    shortest="kubectl label namespace callers istio.io/rev=default; kubectl rollout restart deployment/curl -n callers",
    cause=(
        "sentences takes mTLS only, and curl had no sidecar, so it had no certificate to show. The reset (curl's exit "
        "code 56) is how a STRICT server refuses plaintext."
    ),
    hints=(
        "What does curl print, and which exit code does it end with? Compare lab.sidecars() of both sides.",
        "The client needs an identity: a label on its namespace, and new pods.",
    ),
)
