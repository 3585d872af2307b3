"""Lesson 00: start the lab and meet a pod."""

from labkit.course.acts import apply, look, ready, run
from labkit.course.model import Lesson, Prediction, Question, Step, World

OUTSIDE = "manifests/apps/curl-outside/curl-outside.yaml"

LESSON = Lesson(
    number="00",
    title="Start the lab and meet a pod",
    world=World(mesh=False),
    steps=(
        Step("Ask the cluster", look, checks=("00-no-mesh",), without=lambda lab: lab.install_mesh()),
        Step(
            "Run curl-outside",
            run(apply(OUTSIDE), ready("default/curl-outside")),
            checks=("00-first-pod",),
            covers=("A12",),
        ),
    ),
    predictions={
        "00.1": Prediction(
            "How many containers does the pod of curl-outside have, and what does READY show?",
            {"a": "one, READY 1/1", "b": "two, READY 2/2", "c": "none until a request arrives, READY 0/1"},
            answer="a",
            because="The manifest lists one container, and no mesh is there to add a second one.",
        )
    },
    quiz=(
        Question(
            "READY shows 1/2. What does that tell you?",
            {
                "a": "One of two pods is ready.",
                "b": "One of the two containers of this pod is ready.",
                "c": "The pod has been restarted once.",
            },
            right="b",
            because="READY counts containers within one pod. A pod serves requests once all of them are ready.",
        ),
        Question(
            "A check of this lab has failed. What happened to the notebook?",
            {
                "a": "It stopped, and the cluster was reset.",
                "b": "Nothing: it shows what was expected and what was seen, and you run it again.",
                "c": "The lesson counts as failed for good.",
            },
            right="b",
            because="A check only looks. Mend the cause and run it again; passed is kept in your progress.",
        ),
    ),
)
