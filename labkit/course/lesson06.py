"""Lesson 06: the client's side of mTLS, and a mode for the whole mesh."""

from labkit.course.acts import apply, apply_to_mesh, delete_from_mesh, look, mode
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_outcome, by_status

MANIFESTS = "manifests/lessons/06"

LESSON = Lesson(
    number="06",
    title="Choose what clients send: DestinationRule",
    world=World(gateway=True, applications=("curl-outside", "sentences", "callers", "echoserver-outside")),
    steps=(
        Step("Look at both versions", look, ("06-both-encrypted",), without=mode("DISABLE", "sentences")),
        Step(
            "Describe two subsets",
            apply(f"{MANIFESTS}/destination-rule.yaml"),
            ("06-subsets-idle",),
            covers=("B8",),
        ),
        Step(
            "Route to the subsets",
            apply(f"{MANIFESTS}/virtual-service.yaml"),
            ("06-open-towards-v1",),
            covers=("B8",),
        ),
        Step(
            "Say STRICT for the whole mesh",
            apply_to_mesh(f"{MANIFESTS}/root/strict.yaml"),
            ("06-mesh-strict", "06-sides-disagree"),
            covers=("D9",),
        ),
        Step("Let the sides agree again", apply(f"{MANIFESTS}/both-versions.yaml"), ("06-sides-agree",)),
        Step(
            "Open the way to a server without a sidecar",
            apply(f"{MANIFESTS}/echo-gateway.yaml"),
            ("06-echo-through-gateway",),
        ),
        Step(
            "Send mTLS to everybody",
            apply_to_mesh(f"{MANIFESTS}/root/mutual-everywhere.yaml"),
            ("06-echo-lost",),
            covers=("D10",),
        ),
        Step(
            "Take that rule back",
            delete_from_mesh(f"{MANIFESTS}/root/mutual-everywhere.yaml"),
            ("06-echo-through-gateway",),
        ),
    ),
    predictions={
        "06.1": Prediction(
            "The DestinationRule says DISABLE for subset v1. Nothing else changes. What travels to name-v1?",
            {"a": "mTLS, as before", "b": "plaintext", "c": "nothing: the call fails"},
            answer=by_outcome(mtls="a", plaintext="b", refused="c"),
            expected="a",
            because="A subset is a name for some pods. Until a route leads to it, nobody follows its policy.",
        ),
        "06.2": Prediction(
            "The whole mesh is STRICT now, and clients still send plaintext to v1. What does a caller of v1 get?",
            {"a": "200", "b": "503, from its own sidecar", "c": "403"},
            answer=by_status({200: "a", 503: "b", 403: "c"}),
            expected="b",
            because="The server's sidecar closes the connection. The client's sidecar has to answer something: 503.",
        ),
        "06.3": Prediction(
            "A rule in the root namespace makes every client send mTLS to *.local. echoserver has no sidecar. "
            "What does the gateway answer for it?",
            {"a": "200: auto mTLS knows that it has none", "b": "503", "c": "404"},
            answer=by_status({200: "a", 503: "b", 404: "c"}),
            expected="b",
            because="A DestinationRule that names a TLS mode switches auto mTLS off for what it matches.",
        ),
    },
    quiz=(
        Question(
            "Which object says what a client's sidecar sends?",
            {"a": "PeerAuthentication", "b": "DestinationRule", "c": "VirtualService"},
            right="b",
            because="PeerAuthentication says what a server accepts, a VirtualService where a request goes.",
        ),
        Question(
            "Which tls.mode should most DestinationRules have?",
            {"a": "none at all", "b": "ISTIO_MUTUAL", "c": "MUTUAL"},
            right="a",
            because="Without one, auto mTLS looks at each endpoint and sends mTLS to those with a sidecar.",
        ),
        Question(
            "After a DestinationRule was added, callers get 503 and the servers' logs show nothing. A likely cause?",
            {
                "a": "It has a trafficPolicy.tls that the servers do not accept.",
                "b": "An AuthorizationPolicy denies the caller.",
                "c": "The application crashed.",
            },
            right="a",
            because="The connection fails before HTTP begins. A denied caller would get 403, and the log a line.",
        ),
    ),
)
