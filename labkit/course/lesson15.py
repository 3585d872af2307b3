"""Lesson 15: the capstone, a running application moved to STRICT without a failed request."""

from typing import Any

from labkit.course.acts import apply, inject, ready, run
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_status

MANIFESTS, APP = "manifests/lessons/15", "manifests/apps/sentences/sidecar"


def _replace(name: str) -> Any:
    """One service made anew with a sidecar, while the old one goes on until the new one is ready."""
    return run(apply(f"{APP}/{name}.yaml"), ready("sentences"))


LESSON = Lesson(
    number="15",
    title="Migrate a running application to STRICT",
    world=World(gateway=True, applications=("curl-outside", "sentences-plain", "callers", "chat")),
    steps=(
        Step("Open the door", apply(f"{MANIFESTS}/gateway.yaml"), ("15-open",)),
        Step(
            "Give every service a sidecar, callers first",
            run(inject("sentences"), _replace("sentences"), _replace("name"), _replace("age")),
            ("15-injected", "15-all-mtls"),
        ),
        Step("Close", apply(f"{MANIFESTS}/strict.yaml"), ("15-strict",)),
        Step(
            "Chat through a port-forward under STRICT",
            apply(f"{MANIFESTS}/chat-strict.yaml"),
            ("15-chat-through-forward",),
            covers=("A16",),
        ),
    ),
    predictions={
        "15.1": Prediction(
            "Which service of sentences -> name, age gets its sidecar first, so that no hop ever speaks plaintext "
            "to a sidecar?",
            {"a": "age and name, the servers", "b": "sentences, the caller", "c": "It makes no difference."},
            answer="b",
            because="A caller with a sidecar sends mTLS as soon as its server has one. Without, it sends plaintext.",
        ),
        "15.2": Prediction(
            "The chat is STRICT. You ask its frontend through kubectl port-forward, without a certificate. What comes?",
            {"a": "200", "b": "403", "c": "a reset connection"},
            answer=by_status({200: "a", 403: "b", None: "c"}),
            expected="a",
            because="It enters the pod behind the sidecar. The frontend's own call to the backend is mTLS.",
        ),
    },
    quiz=(
        Question(
            "In which order do you move a namespace to STRICT?",
            {
                "a": "STRICT, then inject, then look who fails",
                "b": "inject, then look for plaintext, then STRICT",
                "c": "inject and STRICT in one step",
            },
            right="b",
            because="PERMISSIVE is the bridge: everybody gets through while sidecars come, and metrics name the rest.",
        ),
        Question(
            "A rolling restart loses a request now and then. What is missing most likely?",
            {
                "a": "a second PeerAuthentication",
                "b": "a pause in preStop, until nobody sends to the old pod any more",
                "c": "a longer certificate",
            },
            right="b",
            because="A pod is told to stop while others still hear of it. The pause lets the news arrive.",
        ),
        Question(
            "Who can chat through kubectl port-forward although the namespace is STRICT?",
            {"a": "nobody", "b": "every pod of the cluster", "c": "whoever may use pods/portforward"},
            right="c",
            because="It is a way for administrators, past the sidecar. RBAC guards it, not mTLS.",
        ),
    ),
)
