"""Sporadic 503s on the day of STRICT, which has nothing to do with them."""

from labkit.checks.expecting import has_mode, keeps
from labkit.course.acts import apply
from labkit.drills.expecting import answered_each_time
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, PAGE, VISITS, broken, repaired

NAME = "innocent-policy"
TIMES = 12  # half of the requests fail: one in 4096 looks is lucky

DRILL = Drill(
    name=NAME,
    title="Since STRICT, now and then a 503",
    story=(
        f"visits became STRICT last night, together with other changes. Since then some requests of callers/curl to "
        f"{PAGE} get 503, and the next one is fine again. Everybody says: roll STRICT back. It stays, and so does the "
        "time limit of five seconds."
    ),
    world=VISITS,
    breaks=apply(broken(NAME)),
    healed=(
        answered_each_time(CALLER, PAGE, TIMES),
        has_mode("visits", "STRICT"),
        keeps("virtualservice", "visits", "visits", "spec", "http", 0, "timeout"),
    ),
    repair=apply(repaired(NAME)),
    shortest=(
        "kubectl patch virtualservice visits -n visits --type json "
        """-p '[{"op": "remove", "path": "/spec/http/0/fault"}]'"""
    ),
    cause=(
        "A fault that a test had injected was left in the VirtualService: half of the requests were aborted with 503 "
        "(access log: FI), before they ever left the caller's pod. The policy was innocent: mTLS either works or it "
        "does not, it never works half of the time."
    ),
    hints=(
        "lab.loop('callers/curl', url) counts. Does refused plaintext come and go like that?",
        "The body says who answered, and the caller's access log (lab.logs('callers/curl', 'istio-proxy')) says why.",
    ),
)
