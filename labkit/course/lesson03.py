"""Lesson 03: test who may talk plaintext."""

from labkit.course.acts import look, mode
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_outcome

STRICT = mode("STRICT", "azureopenai")

LESSON = Lesson(
    number="03",
    title="Test who may talk plaintext",
    world=World(applications=("curl-outside", "chat")),
    steps=(
        Step("Look at the effective mode", look, ("03-permissive",), without=STRICT),
        Step("Knock from outside", look, ("03-plaintext-accepted",), covers=("A13",), without=STRICT),
        Step("Knock from inside", look, ("03-mesh-client-accepted",), without=mode("DISABLE", "azureopenai")),
        Step(
            "Read the certificate",
            look,
            ("03-certificate",),
            without=lambda lab: lab.delete("manifests/apps/chat/chatbackend.yaml"),
        ),
    ),
    predictions={
        "03.1": Prediction(
            "Nobody has written a policy for azureopenai. In which mode do its sidecars receive?",
            {"a": "DISABLE", "b": "STRICT", "c": "PERMISSIVE"},
            answer="c",
            because="PERMISSIVE is what holds where no policy says anything else.",
        ),
        "03.2": Prediction(
            "curl-outside, without a sidecar, calls the backend, which has one. There is no policy. What happens?",
            {"a": "It is answered, by mTLS.", "b": "It is answered, in plaintext.", "c": "It is refused."},
            answer=by_outcome(mtls="a", plaintext="b", refused="c"),
            expected="b",
            because="Without a policy the mode is PERMISSIVE, and without a sidecar there is no certificate to show.",
        ),
        "03.3": Prediction(
            "chatfrontend, with a sidecar, sends the same plain HTTP. What travels between the two pods?",
            {"a": "mTLS", "b": "plaintext", "c": "nothing, it is refused"},
            answer=by_outcome(mtls="a", plaintext="b", refused="c"),
            expected="a",
            because="Its sidecar knows that the backend has one, too, and uses mTLS without being told: auto mTLS.",
        ),
    },
    quiz=(
        Question(
            "A request from a pod is answered with 200. Was it encrypted?",
            {"a": "yes", "b": "no", "c": "The status does not tell."},
            right="c",
            because="PERMISSIVE answers both. Look at the edge, at metrics or at the wire.",
        ),
        Question(
            "What does a SPIFFE ID such as spiffe://cluster.local/ns/azureopenai/sa/default name?",
            {"a": "a host", "b": "a workload's namespace and service account", "c": "a pod"},
            right="b",
            because="All pods of one service account have one identity; addresses and names of pods change.",
        ),
    ),
)
