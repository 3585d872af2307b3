"""Lesson 20: the mesh under the names that the add-on of AKS gives it."""

from typing import Any

from labkit.course.acts import apply, apply_to_mesh, label, ready, run
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_outcome

CHAT = "manifests/apps/chat"
ADDON = {"mesh_namespace": "aks-istio-system", "revision": "asm-1-24"}
INGRESS, DOOR = "aks-istio-ingress", "aks-istio-ingressgateway-external"


def enable(lab: Any) -> object:
    """The world again, with a mesh under the add-on's names. A mesh that somebody else installed stays as it is."""
    return lab.world("20", **ADDON)


def look_up_and_label(lab: Any) -> object:
    """The revision's label, and none beside it that would win over it."""
    return lab.label_namespace("azureopenai", {"istio-injection": None, **lab.mesh_status().injection_label})


LESSON = Lesson(
    number="20",
    title="Use the mesh on AKS",
    world=World(applications=("curl-outside",), makes=("azureopenai", INGRESS)),
    steps=(
        Step("Enable the add-on", enable, ("20-addon",), covers=("A2",)),
        Step(
            "Ask for sidecars as other guides do",
            run(
                apply(f"{CHAT}/00-namespace.yaml"),
                label("azureopenai", {"istio-injection": "enabled"}),
                apply([f"{CHAT}/chatbackend-configs.yaml", f"{CHAT}/chatbackend.yaml"]),
                ready("azureopenai"),
            ),
            ("20-passed-over",),
        ),
        Step(
            "Look the revision up and label the namespace",
            run(look_up_and_label, lambda lab: lab.restart("azureopenai/chatbackend")),
            ("20-labelled", "20-injected"),
            covers=("A5",),
        ),
        Step(
            "Say STRICT in the add-on's root namespace",
            apply_to_mesh("manifests/lessons/20/root/strict.yaml"),
            ("20-outsider-reset",),
        ),
        Step(
            "Open the add-on's gateway",
            run(lambda lab: lab.install_gateway(INGRESS, DOOR), apply("manifests/lessons/20/gateway.yaml")),
            ("20-door",),
        ),
    ),
    predictions={
        "20.1": Prediction(
            "The namespace carries istio-injection=enabled, and the mesh is the add-on's. What is READY of new pods?",
            {"a": "1/1", "b": "2/2", "c": "The pods are refused."},
            answer="a",
            because="That label asks the default revision, and here is none. Nobody answers, and nobody complains.",
        ),
        "20.2": Prediction(
            "STRICT stands in aks-istio-system. curl-outside posts to the backend. What happens?",
            {"a": "It is answered, by mTLS.", "b": "It is answered, in plaintext.", "c": "It is refused."},
            answer=by_outcome(mtls="a", plaintext="b", refused="c"),
            expected="c",
            because="aks-istio-system is this mesh's root namespace; istio-system is one like any other here.",
        ),
    },
    quiz=(
        Question(
            "A Gateway on AKS names a credentialName. In which namespace does the Secret stand?",
            {"a": "azureopenai, beside the Gateway", "b": "aks-istio-ingress", "c": "aks-istio-system"},
            right="b",
            because="It is read for the gateway's pods, so it stands where they run; lesson 08 tries the other way.",
        ),
        Question(
            "The add-on is upgraded from asm-1-24 to asm-1-25. What do you do with your namespaces?",
            {
                "a": "Nothing: sidecars are upgraded while they run.",
                "b": "Delete them and deploy again.",
                "c": "Change the label to the new revision and restart the workloads.",
            },
            right="c",
            because="Both control planes run for a while, and each namespace moves when you say so.",
        ),
        Question(
            "Which of these can you not do with the add-on?",
            {
                "a": "apply a WorkloadEntry",
                "b": "write a PeerAuthentication",
                "c": "give a namespace back to PERMISSIVE",
            },
            right="a",
            because="The add-on blocks some kinds: ProxyConfig, WorkloadEntry, WorkloadGroup, WasmPlugin among them.",
        ),
    ),
)
