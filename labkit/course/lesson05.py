"""Lesson 05: half a mesh, partial injection and the source called unknown."""

from typing import Any

from labkit.course.acts import apply, inject, ready, restart, run
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_status

APP = "manifests/apps/sentences"
MANIFESTS = "manifests/lessons/05"


def send(lab: Any) -> object:
    """A few requests through the front door."""
    return lab.loop("default/curl-outside", lab.door(), times=5)


LESSON = Lesson(
    number="05",
    title="Meet half a mesh and the source called unknown",
    world=World(gateway=True, applications=("curl-outside",)),
    steps=(
        Step(
            "Deploy sentences without sidecars behind a gateway",
            run(apply(f"{APP}/plain"), ready("sentences"), apply(f"{MANIFESTS}/gateway.yaml"), send),
            ("05-plain-pods", "05-loop-answered"),
            covers=("B1", "B2"),
        ),
        Step("Say STRICT where nobody enforces it", apply(f"{MANIFESTS}/strict.yaml"), ("05-strict-is-idle",), ("B3",)),
        Step(
            "Give age alone a sidecar",
            run(inject("sentences"), apply(f"{APP}/sidecar/age.yaml"), ready("sentences")),
            ("05-age-refuses",),
            covers=("B4",),
        ),
        Step("Go back to PERMISSIVE", apply(f"{MANIFESTS}/permissive.yaml"), ("05-permissive-restores",), ("B5",)),
        Step("Ask age who calls", send, ("05-unknown-source",), ("B6",), without=restart("sentences/age")),
        Step(
            "Inject all of them and say STRICT again",
            run(apply(f"{APP}/sidecar"), ready("sentences"), apply(f"{MANIFESTS}/strict.yaml"), send),
            ("05-all-locked",),
            covers=("B7",),
        ),
    ),
    predictions={
        "05.1": Prediction(
            "No pod of sentences has a sidecar, and the namespace is STRICT. What does a request get?",
            {"a": "200, as before", "b": "502, because a hop is refused", "c": "no answer: the connection is reset"},
            answer=by_status({200: "a", 502: "b", None: "c"}),
            expected="a",
            because="A PeerAuthentication is enforced by the server's sidecar. Without sidecars nobody enforces it.",
        ),
        "05.2": Prediction(
            "age has a sidecar now, sentences has none, and the namespace is still STRICT. What does a request get?",
            {"a": "200, as before", "b": "502, because a hop is refused", "c": "no answer: the connection is reset"},
            answer=by_status({200: "a", 502: "b", None: "c"}),
            expected="b",
            because="sentences can only send plaintext, and age's sidecar refuses it. The gateway passes the error on.",
        ),
        "05.3": Prediction(
            "Under PERMISSIVE, whom does age's sidecar name as the source of its requests?",
            {"a": "sentences", "b": "unknown", "c": "istio-ingressgateway"},
            answer="b",
            because="A name comes from a certificate or from the client's sidecar, and sentences has neither.",
        ),
    },
    quiz=(
        Question(
            "Which side enforces a PeerAuthentication?",
            {"a": "the client's sidecar", "b": "the server's sidecar", "c": "istiod"},
            right="b",
            because="It says what a server accepts. What a client sends is said by a DestinationRule, or by auto mTLS.",
        ),
        Question(
            "A graph shows two islands: gateway -> sentences, and unknown -> age. What connects them in truth?",
            {
                "a": "Nothing: somebody from outside calls age.",
                "b": "The gateway calls age directly.",
                "c": "sentences calls age, and has no sidecar to say so.",
            },
            right="c",
            because="Only sidecars count requests. A hop whose client has none is seen by the server alone.",
        ),
        Question(
            "You move a running application into the mesh, one workload after the other. Which mode meanwhile?",
            {"a": "STRICT", "b": "PERMISSIVE", "c": "DISABLE"},
            right="b",
            because="Some callers have no sidecar yet. PERMISSIVE answers them, and uses mTLS with all others.",
        ),
    ),
)
