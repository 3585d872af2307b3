"""A DestinationRule that asks for mTLS with a server that has no sidecar."""

from labkit.checks.expecting import answered
from labkit.course import World
from labkit.course.acts import apply, delete
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, broken
from labkit.outcomes import Outcome

NAME = "mutual-with-nobody"
URL = "http://echoserver.echo:8080/"

DRILL = Drill(
    name=NAME,
    title="Somebody wanted to be thorough about encryption",
    story=(
        f"callers/curl used to reach {URL}. Since a colleague made sure that all traffic is encrypted, it gets 503. "
        "echoserver is a vendor's image whose pods must not be changed: plaintext is accepted there for now."
    ),
    world=World(applications=("echoserver-outside", "callers")),
    breaks=apply(broken(NAME)),
    healed=(answered(CALLER, URL, by=Outcome.PLAINTEXT),),
    repair=delete("destinationrule/echoserver", "echo"),
    shortest="kubectl delete destinationrule echoserver -n echo",
    cause=(
        "ISTIO_MUTUAL makes every client begin a TLS handshake, and there was no sidecar that could answer it. The "
        "caller's proxy said 503 with a TLS error (UF). Auto mTLS would have seen that this server has no sidecar."
    ),
    hints=(
        "The caller's access log names TLS: lab.logs('callers/curl', 'istio-proxy'). Who speaks it, and who cannot?",
        "lab.explain('callers/curl', 'echo/echoserver', 8080) names who asks for mTLS. Has that server a sidecar?",
    ),
)
