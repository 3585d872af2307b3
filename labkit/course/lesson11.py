"""Lesson 11: who may call whom, by host and by identity."""

from labkit.course.acts import apply, apply_to_mesh
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_status

MANIFESTS = "manifests/lessons/11"

LESSON = Lesson(
    number="11",
    title="Tell who may call whom: AuthorizationPolicy",
    world=World(gateway=True, applications=("curl-outside", "sentences", "callers")),
    steps=(
        Step("Open the door for every host", apply(f"{MANIFESTS}/gateway.yaml"), ("11-any-host",)),
        Step(
            "Let one family of hosts in", apply_to_mesh(f"{MANIFESTS}/root/hosts.yaml"), ("11-hosts",), covers=("D14",)
        ),
        Step("Let one identity call age", apply(f"{MANIFESTS}/age-callers.yaml"), ("11-identity",)),
        Step("Deny an identity", apply(f"{MANIFESTS}/name-denies.yaml"), ("11-deny-leaks",)),
        Step("Ask everybody for a certificate", apply(f"{MANIFESTS}/strict.yaml"), ("11-no-leak",)),
    ),
    predictions={
        "11.1": Prediction(
            "age allows the identity of sentences. curl in callers, with a sidecar of its own, calls age. What comes?",
            {"a": "200", "b": "403", "c": "a reset connection"},
            answer=by_status({200: "a", 403: "b", None: "c"}),
            expected="b",
            because="Its certificate is good, so the connection stands. Its name is not on the list, so HTTP says 403.",
        ),
        "11.2": Prediction(
            "name denies the identity of curl in callers. curl-outside, without a certificate, calls name. What comes?",
            {"a": "200", "b": "403", "c": "a reset connection"},
            answer=by_status({200: "a", 403: "b", None: "c"}),
            expected="a",
            because="The rule matches one name. Who shows no certificate has no name, so the rule does not match.",
        ),
    },
    quiz=(
        Question(
            "A workload has one ALLOW policy. What happens to requests that no rule of it matches?",
            {"a": "They are allowed.", "b": "They are denied with 403.", "c": "The next namespace decides."},
            right="b",
            because="As soon as one ALLOW policy selects a workload, all that no ALLOW matches is denied.",
        ),
        Question(
            "In which order are the actions looked at?",
            {"a": "ALLOW, then DENY", "b": "the oldest policy first", "c": "CUSTOM, then DENY, then ALLOW"},
            right="c",
            because="A DENY that matches ends it. An ALLOW cannot bring back what a DENY took.",
        ),
        Question(
            "Which rule can never match a caller that sends plaintext?",
            {"a": "one with principals or namespaces", "b": "one with paths", "c": "one with ipBlocks"},
            right="a",
            because="Both are read from the client's certificate. In a DENY rule that is a hole, which STRICT closes.",
        ),
    ),
)
