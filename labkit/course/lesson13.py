"""Lesson 13: what proxies and istiod say of themselves."""

from typing import Any

from labkit.course.acts import apply_to_mesh, look, run
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_outcome

FRONTEND = "http://frontend.workshop:9000/"


def _strict(lab: Any) -> object:
    return lab.apply("manifests/lessons/13/root/strict.yaml", lab.mesh_status().namespace)


def _debug(lab: Any) -> object:
    return lab.proxy_log("workshop/frontend", "upstream:debug")


def _lose_frontend(lab: Any) -> object:
    """Delete it, and wait until its pod, and so its proxy, has gone."""

    def left(pods: list[Any]) -> str:
        return "its pod has to go" if pods else ""

    done = lab.delete("deployment/frontend", "workshop")
    labels = {"app": "frontend"}
    lab.cluster.wait_until("Pod", left, what="frontend has gone", namespace="workshop", labels=labels)
    return done


LESSON = Lesson(
    number="13",
    title="Read the proxy's own words",
    world=World(applications=("curl-outside", "workshop")),
    steps=(
        Step(
            "Find the sidecar: in the Pod, not in the Deployment",
            look,
            ("13-injected",),
            covers=("D3", "E1"),
            without=lambda lab: lab.delete("deployment/catalogdetail2", "workshop"),
        ),
        Step(
            "Ask istiod who is in step",
            look,
            ("13-synced",),
            covers=("D2", "D5"),
            without=_lose_frontend,
        ),
        Step("Describe a pod", look, ("13-described-permissive",), covers=("E2", "E3"), without=_strict),
        Step(
            "Put a lock on each edge",
            lambda lab: lab.loop("default/curl-outside", FRONTEND, times=6),
            ("13-edges-locked",),
            covers=("E4",),
        ),
        Step(
            "Say STRICT for the mesh",
            apply_to_mesh("manifests/lessons/13/root/strict.yaml"),
            ("13-described-strict", "13-outsider-reset"),
            covers=("E5", "E6", "E8"),
        ),
        Step(
            "Let the frontend's proxy explain itself",
            run(_debug, lambda lab: lab.restart("workshop/productcatalog")),
            ("13-log-level", "13-log-names-socket"),
            covers=("E7", "E9"),
        ),
    ),
    predictions={
        "13.1": Prediction(
            "frontend's pod is 2/2. How many containers does the template of its Deployment have?",
            {"a": "one", "b": "two", "c": "three, with istio-init"},
            answer="a",
            because="The webhook changes Pods, when they are made. Nobody writes into your Deployment.",
        ),
        "13.2": Prediction(
            "The mesh is STRICT now. curl-outside asks the frontend, which it could before. What happens?",
            {"a": "It is answered, by mTLS.", "b": "It is answered, in plaintext.", "c": "It is refused."},
            answer=by_outcome(mtls="a", plaintext="b", refused="c"),
            expected="c",
            because="One policy in the root namespace holds for every workload with a sidecar, in every namespace.",
        ),
    },
    quiz=(
        Question(
            "proxy-status shows STALE for one proxy. What does it mean?",
            {
                "a": "Its certificate has expired.",
                "b": "istiod sent it something that it has not acknowledged.",
                "c": "It has had no traffic for a while.",
            },
            right="b",
            because="SYNCED means that the proxy runs the newest configuration, STALE that an answer is missing.",
        ),
        Question(
            "A proxy's log says: transport socket match, socket tlsMode-disabled selected. What follows?",
            {
                "a": "The proxy sends plaintext to that endpoint.",
                "b": "The endpoint is STRICT.",
                "c": "The proxy has no certificate.",
            },
            right="a",
            because="It chooses for each endpoint: tlsMode-istio where there is a sidecar, tlsMode-disabled elsewhere.",
        ),
        Question(
            "Which of these tells what a proxy runs, and not what somebody wrote?",
            {"a": "kubectl get peerauthentication", "b": "istioctl analyze", "c": "istioctl proxy-config listeners"},
            right="c",
            because="It reads the running Envoy. The others read objects; between the two lies the delivery.",
        ),
    ),
)
