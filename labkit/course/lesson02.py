"""Lesson 02: inject sidecars and watch pods grow to 2/2."""

from labkit.course.acts import apply, inject, ready, restart, run
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_outcome

CHAT = "manifests/apps/chat"
OUTSIDE = "manifests/apps/curl-outside/curl-outside.yaml"

LESSON = Lesson(
    number="02",
    title="Inject sidecars and watch pods grow to 2/2",
    world=World(),
    steps=(
        Step(
            "Deploy the chat application",
            run(apply(CHAT), ready("azureopenai")),
            ("02-plain-pods", "02-running-pods-unchanged"),
            covers=("A4", "A6", "A7", "A9", "A10"),
        ),
        Step("Label the namespace", inject("azureopenai"), ("02-namespace-labelled",), covers=("A5",)),
        Step(
            "Make new pods",
            restart("azureopenai/chatbackend", "azureopenai/chatfrontend"),
            ("02-injected-pods", "02-inside-the-pod", "02-mesh-request"),
            covers=("A8", "A10", "A11"),
        ),
        Step(
            "Run a client outside",
            run(apply(OUTSIDE), ready("default/curl-outside")),
            ("02-outside-not-injected",),
            covers=("A12",),
        ),
    ),
    predictions={
        "02.1": Prediction(
            "The mesh is installed, the namespace has no label. You apply both manifests. What will run?",
            {"a": "two pods, READY 1/1", "b": "four pods, READY 1/1", "c": "four pods, READY 2/2"},
            answer="b",
            because="Two Deployments ask for two replicas each, and nobody asked for sidecars in this namespace.",
        ),
        "02.2": Prediction(
            "You label the namespace for injection. What happens to its four running pods?",
            {"a": "They are restarted with a sidecar.", "b": "They stay as they are.", "c": "They are deleted."},
            answer="b",
            because="The webhook sees pods when they are created, and nothing creates one here.",
        ),
        "02.3": Prediction(
            "You run curl-outside in the namespace default, which has no label. What does READY show?",
            {"a": "1/1", "b": "2/2", "c": "1/2"},
            answer="a",
            because="The label of azureopenai asks for sidecars there alone. Here nobody asks.",
        ),
        "02.4": Prediction(
            "chatfrontend calls chatbackend. Both have a sidecar, and there is no policy. What travels between them?",
            {"a": "mTLS", "b": "plaintext", "c": "nothing, it is refused"},
            answer=by_outcome(mtls="a", plaintext="b", refused="c"),
            expected="a",
            because="A client's sidecar that finds a sidecar at the server uses mTLS without being told: auto mTLS.",
        ),
    },
    quiz=(
        Question(
            "You labelled a namespace, and its pods still show 1/1. What is missing?",
            {"a": "a PeerAuthentication", "b": "a restart, so that new pods are made", "c": "a new Service"},
            right="b",
            because="Only new pods pass the webhook: kubectl rollout restart deployment/NAME.",
        ),
        Question(
            "Where do you find the sidecar in YAML?",
            {"a": "in the Deployment", "b": "in the Pod", "c": "in the Service"},
            right="b",
            because="The webhook changes pods. The Deployment's template stays what you wrote.",
        ),
    ),
)
