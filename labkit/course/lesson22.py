"""Lesson 22: how Istio itself is configured, whatever installs it."""

from typing import Any

from labkit.course.acts import apply_to_mesh, look, run
from labkit.course.model import Act, Lesson, Prediction, Question, Step, World, by_status

MANIFESTS = "manifests/lessons/22/root"
SILENT = {"meshConfig": {"accessLogFile": ""}}


def configure(*values: Any, **more: Any) -> Act:
    """`lab.configure_mesh`: an IstioOperator, Helm's values, or `--set`."""
    return lambda lab: lab.configure_mesh(list(values), **more)


LESSON = Lesson(
    number="22",
    title="Configure the mesh itself",
    world=World(applications=("callers", "echoserver")),
    steps=(
        Step("Read the settings", look, ("22-settings",), covers=("D16",), without=configure(SILENT)),
        Step(
            "Change them with an IstioOperator",
            configure(f"{MANIFESTS}/operator.yaml"),
            ("22-names-caller",),
            covers=("D16",),
        ),
        Step("Change them with Helm's values", configure(SILENT), ("22-silent",), covers=("D16",)),
        Step(
            "Take auto mTLS away, with --set",
            run(apply_to_mesh(f"{MANIFESTS}/strict.yaml"), configure(set=["meshConfig.enableAutoMtls=false"])),
            ("22-without-auto",),
            covers=("D16",),
        ),
        Step("Back to the defaults", configure(), ("22-defaults",), covers=("D16",)),
    ),
    predictions={
        "22.1": Prediction(
            "enableAutoMtls is false, the mesh is STRICT, no DestinationRule is there. What does a client with a "
            "sidecar get from a server with one?",
            {"a": "200, by mTLS", "b": "200, in plaintext", "c": "503"},
            answer=by_status({200: "a", 503: "c"}),
            expected="c",
            because="Auto mTLS lets clients send mTLS unasked. Without it they send plaintext, as before Istio 1.5.",
        ),
    },
    quiz=(
        Question(
            "Where do the settings of the mesh stand, once it is installed?",
            {
                "a": "in an IstioOperator object",
                "b": "in the ConfigMap istio, beside istiod",
                "c": "in each pod's annotations",
            },
            right="b",
            because="istioctl and Helm only write it. istiod reads it, and reads it again when it changes.",
        ),
        Question(
            "You run istioctl install --set meshConfig.enableAutoMtls=false. What becomes of settings from before?",
            {"a": "They are kept.", "b": "Both are merged.", "c": "What is not named gets its default."},
            right="c",
            because="An installation says all. Keep the settings in a file, and give that file each time.",
        ),
        Question(
            "Why are there three stacks of Terraform: cluster, Istio, dashboards?",
            {
                "a": "A provider can only be configured once what it talks to exists.",
                "b": "Terraform cannot install Helm charts.",
                "c": "It is faster.",
            },
            right="a",
            because="Helm's provider needs the cluster's address, and that of Grafana needs a Grafana.",
        ),
    ),
)
