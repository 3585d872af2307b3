"""Lesson 16: broken meshes, from the symptom to the cause."""

from typing import Any

from labkit.course.acts import look
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_status

DRILL = "rule-forgets-tls"


def _break(lab: Any) -> None:
    lab.drill(DRILL)


def _heal(lab: Any) -> object:
    return lab.heal()


LESSON = Lesson(
    number="16",
    title="Repair what others broke",
    world=World(applications=("visits", "callers", "curl-outside")),
    steps=(
        Step("Meet the symptom", _break, ("16-two-symptoms", "16-log-says-who")),
        Step("Ask both sides what they do", look, ("16-both-sides",), without=_heal),
        Step("Repair it, and nothing else", _heal, ("16-healed",)),
    ),
    predictions={
        "16.1": Prediction(
            "callers/curl has a sidecar and gets 503 with a body. Who has written this answer?",
            {"a": "visits itself", "b": "the sidecar of visits", "c": "the caller's own sidecar"},
            answer="c",
            because="upstream connect error is what a proxy says that did not reach its upstream: here, the caller's.",
        ),
        "16.2": Prediction(
            "default/curl-outside has no sidecar, and asks the same STRICT server. What does it see?",
            {"a": "503, too", "b": "a reset connection, exit code 56", "c": "403"},
            answer=by_status({503: "a", None: "b", 403: "c"}),
            expected="b",
            because="The same server cuts the same plaintext, but no proxy stands before curl to put it into HTTP.",
        ),
    },
    quiz=(
        Question(
            "A client with a sidecar gets 503, and its access log says UC. What do you look at first?",
            {
                "a": "what the client sends and what the server takes",
                "b": "the labels of a subset",
                "c": "the rules of an AuthorizationPolicy",
            },
            right="a",
            because="UC: the connection stood, and the other side ended it. A subset without pods: UH. A rule: 403.",
        ),
        Question(
            "A caller gets 403 and RBAC: access denied. What do you know already?",
            {
                "a": "The server has no sidecar.",
                "b": "The connection stood, and an AuthorizationPolicy refused the request.",
                "c": "The namespace is STRICT.",
            },
            right="b",
            because="403 is HTTP, so bytes got through. Whether with or without a certificate, explain tells.",
        ),
        Question(
            "Every third request fails with 503, and STRICT came yesterday. What speaks for the policy's innocence?",
            {
                "a": "that it is only a third",
                "b": "that it came yesterday",
                "c": "that 503 is not 403",
            },
            right="a",
            because="The same client either has a certificate or not. What comes and goes has another cause.",
        ),
    ),
)
