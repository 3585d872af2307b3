"""Lesson 01: install the mesh and see what the cluster learns."""

from labkit.course.acts import apply, look, ready, run
from labkit.course.model import Lesson, Prediction, Question, Step, World

OUTSIDE = "manifests/apps/curl-outside/curl-outside.yaml"

LESSON = Lesson(
    number="01",
    title="Install the mesh and see what the cluster learns",
    world=World(mesh=False),
    steps=(
        Step("Ask for a kind that nobody knows", look, ("01-kind-unknown",), without=lambda lab: lab.install_mesh()),
        Step("Run a witness", run(apply(OUTSIDE), ready("default/curl-outside")), ("01-pods-plain",), covers=("A12",)),
        Step(
            "Install Istio",
            lambda lab: lab.install_mesh(**lab.mesh_names),
            ("01-mesh-installed", "01-kinds-served", "01-webhook-registered"),
            covers=("A2", "A3"),
        ),
    ),
    predictions={
        "01.1": Prediction(
            "You apply a PeerAuthentication before Istio is installed. What does the cluster answer?",
            {"a": "It is stored and ignored.", "b": "It works.", "c": "It is refused."},
            answer="c",
            because="Kubernetes stores only kinds that it knows; Istio's kinds arrive with Istio.",
        ),
        "01.2": Prediction(
            "You install Istio. What becomes of curl-outside, which runs already?",
            {
                "a": "It gets a sidecar and is restarted.",
                "b": "Nothing.",
                "c": "Its requests are encrypted from now on.",
            },
            answer="b",
            because="Injection happens when a pod is created. A pod that runs is never changed.",
        ),
    },
    quiz=(
        Question(
            "Which of these arrives with an installation of Istio?",
            {
                "a": "a sidecar in every pod",
                "b": "new kinds, a control plane and a webhook",
                "c": "a policy that refuses plaintext",
            },
            right="b",
            because="The installation prepares. Sidecars come with new pods, and policies when you write them.",
        ),
        Question(
            "What is a revision such as asm-1-24 good for?",
            {
                "a": "It names a control plane, so that two versions can run side by side.",
                "b": "It is the version of your application.",
                "c": "It turns on mutual TLS.",
            },
            right="a",
            because="Namespaces choose a control plane by the label istio.io/rev and move from one to the next.",
        ),
    ),
)
