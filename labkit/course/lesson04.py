"""Lesson 04: enforce STRICT and close the door to plaintext."""

from labkit.course.acts import apply, look, mode
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_outcome

STRICT = "manifests/lessons/04/peer-authentication.yaml"

LESSON = Lesson(
    number="04",
    title="Enforce STRICT and close the door to plaintext",
    world=World(applications=("curl-outside", "chat")),
    steps=(
        Step(
            "Before: everybody gets in",
            look,
            ("03-plaintext-accepted",),
            ("A13",),
            without=mode("STRICT", "azureopenai"),
        ),
        Step("Apply STRICT", apply(STRICT), ("04-strict-declared", "04-plaintext-refused"), covers=("A14", "A15")),
        Step(
            "Ask from inside",
            look,
            ("04-mesh-client-accepted",),
            without=mode("DISABLE", "azureopenai", "azureopenai-mtls"),
        ),
    ),
    predictions={
        "04.1": Prediction(
            "STRICT is in force. What becomes of the request of curl-outside?",
            {"a": "It is answered, by mTLS.", "b": "It is answered, in plaintext.", "c": "It is refused."},
            answer=by_outcome(mtls="a", plaintext="b", refused="c"),
            expected="c",
            because="The backend's sidecar waits for a TLS handshake, reads plaintext, and closes the connection.",
        ),
        "04.2": Prediction(
            "And the same request of chatfrontend, which has a sidecar?",
            {"a": "It is answered, by mTLS.", "b": "It is answered, in plaintext.", "c": "It is refused."},
            answer=by_outcome(mtls="a", plaintext="b", refused="c"),
            expected="a",
            because="Its sidecar has used mTLS all along, so STRICT takes nothing away from it.",
        ),
        "04.3": Prediction(
            "STRICT is in force, and you press PERMISSIVE. Which line of the map changes?",
            {"a": "that of curl-outside alone", "b": "that of chatfrontend alone", "c": "both"},
            answer="a",
            because="chatfrontend sends mTLS in either mode. Only the plaintext of curl-outside is let in again.",
        ),
    },
    quiz=(
        Question(
            "A client without a sidecar calls a STRICT server. What does curl print?",
            {
                "a": "HTTP 403",
                "b": "HTTP 503",
                "c": "curl: (56) Recv failure: Connection reset by peer",
            },
            right="c",
            because="HTTP never begins: the sidecar closes the connection when no TLS handshake comes.",
        ),
        Question(
            "Three PeerAuthentications apply to one pod: of the mesh, its namespace, the workload. Which one counts?",
            {"a": "the oldest", "b": "the strictest", "c": "the narrowest: the one for the workload"},
            right="c",
            because="Port-level, then workload, then namespace, then mesh. Only within one level the oldest counts.",
        ),
        Question(
            "portLevelMtls names port 80, the Service's port; the container listens on 8080. What happens?",
            {"a": "Port 8080 follows the rule.", "b": "Nothing: the port is the container's.", "c": "It is refused."},
            right="b",
            because="portLevelMtls takes the container's port. A rule for another port changes nothing, silently.",
        ),
    ),
)
