"""Each step of each lesson, and each drill, on a real cluster: a check fails without its effect and passes with it.

New lessons and drills are found by themselves. Nothing of the notebooks runs here, so this is quick.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import labkit
from labkit.checks import checks_of, find_check
from labkit.cluster.opening import embedded_lifecycle
from labkit.course import Lesson, Step, World, acts, lessons
from labkit.drills import drills
from labkit.lab import Lab, course

pytestmark = [pytest.mark.timeout(600)]

CLUSTER = "steps"
NUMBERS = list(lessons())


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One cluster for all; the world of each lesson makes it what that one needs."""
    embedded_lifecycle().down(CLUSTER, purge=True)
    with labkit.open(f"embedded:{CLUSTER}", narrate=lambda _: None) as opened:
        yield opened
    embedded_lifecycle().down(CLUSTER, purge=True)


@pytest.fixture(autouse=True)
def _nothing_is_kept_of_these_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_CI", "1")


def passing(lab: Lab, step: Step) -> list[str]:
    """The names of a step's checks that pass now."""
    return [name for name in step.checks if lab._judge(name).passed]


def words(lab: Lab, step: Step) -> str:
    return "\n".join(str(lab._judge(name)) for name in step.checks)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_check_fails_without_its_effect_and_passes_with_it(number: str, lab: Lab) -> None:
    lesson = lessons()[number]
    lab.world(number)
    for place, step in enumerate(lesson.steps, 1):
        where = f"step {number}.{place}, {step.title}"
        if step.without is None:
            assert passing(lab, step) == [], f"{where}: passes before the step was done"
            step.act(lab)
            assert passing(lab, step) == list(step.checks), f"{where}: {words(lab, step)}"
        else:
            step.act(lab)
            assert passing(lab, step) == list(step.checks), f"{where}: {words(lab, step)}"
            step.without(lab)
            assert passing(lab, step) == [], f"{where}: passes although the effect was taken away"
            assert lab.solve(number, step=place).warnings == (), where


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lesson_is_solved_from_anywhere_and_its_world_is_reached_again(number: str, lab: Lab) -> None:
    solved = lab.solve(number)
    assert solved.warnings == ()
    lab.reset(number)
    assert "nothing had to be changed" in str(lab.reset(number))


def test_worlds_are_reached_in_any_order(lab: Lab) -> None:
    for number in [*reversed(NUMBERS), *NUMBERS]:
        lab.world(number)
    assert "nothing had to be changed" in str(lab.world(NUMBERS[-1]))


def test_a_dirty_cluster_is_brought_there_and_says_what_was_changed(lab: Lab) -> None:
    lab.solve("05")
    lab.install_gateway()
    lab.apply(STRAY)
    lab.cluster.patch("deployments", "sentences", OPTED_OUT, "sentences")
    lab.wait_until_ready("sentences")
    said = str(lab._make(World(applications=("sentences",)), ""))
    for words in (
        "removed peerauthentication sentences/default",
        "removed peerauthentication sentences/stray",
        "removed configmap stray",
        "removed the ingress gateway",
        "made deployment sentences anew",
        "removed deployment curl-outside",
    ):
        assert words in said, said
    assert set(lab.pods("sentences")["READY"]) == {"2/2"}
    assert "nothing had to be changed" in str(lab._make(World(applications=("sentences",)), ""))


STRAY = [
    {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "stray", "namespace": "sentences"},
        "spec": {"selector": {"matchLabels": {"app": "age"}}, "mtls": {"mode": "DISABLE"}},
    },
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stray", "namespace": "sentences"}},
]
OPTED_OUT = {"spec": {"template": {"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}}}}


@pytest.mark.parametrize("name", list(drills()))
class TestDrill:
    def test_it_is_not_healed_before_and_healed_after_its_shortest_repair(
        self, name: str, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab.drill(name)
        with monkeypatch.context() as quick:
            quick.setattr(course, "HEALING_SECONDS", 0.3)
            before = lab.check_drill()
        assert not before.healed
        assert before.cause == before.shortest == "", "the answer is not given away"
        lab.heal()
        after = lab.check_drill()
        assert after.healed, str(after)
        assert after.cause and after.shortest

    def test_it_has_two_hints_a_story_and_no_answer_in_it(self, name: str) -> None:
        drill = drills()[name]
        assert len(drill.hints) >= 2
        assert drill.story and drill.title and "kubectl" in drill.shortest
        assert drill.cause not in drill.story


SHORTCUTS = {
    "strict-meets-stranger": acts.delete("peerauthentication/default", "sentences"),
    "rule-forgets-tls": acts.delete("destinationrule/visits", "visits"),
    "innocent-policy": acts.delete("virtualservice/visits", "visits"),
    "name-without-certificate": acts.delete("authorizationpolicy/visits-callers", "visits"),
    "port-of-the-service": acts.delete("peerauthentication/visits", "visits"),
    "scraper-is-refused": acts.mode("PERMISSIVE", "visits"),
}
"""What ends the symptom and takes along what was meant to stay."""


@pytest.mark.parametrize("name", SHORTCUTS)
def test_ending_the_symptom_alone_heals_no_drill(name: str, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.drill(name)
    SHORTCUTS[name](lab)
    monkeypatch.setattr(course, "HEALING_SECONDS", 0.3)
    result = lab.check_drill()
    assert not result.healed and result.cause == "", str(result)


@pytest.mark.parametrize("lesson", lessons().values(), ids=NUMBERS)
class TestData:
    def test_steps_have_checks_that_need_no_evidence(self, lesson: Lesson) -> None:
        assert lesson.steps
        for step in lesson.steps:
            assert step.checks, step.title
            for name in step.checks:
                check = find_check(name)
                assert check.collect is not None and not check.exercise, name

    def test_predictions_are_numbered_and_answered_by_one_of_their_choices(self, lesson: Lesson) -> None:
        assert list(lesson.predictions) == [f"{lesson.number}.{n}" for n in range(1, len(lesson.predictions) + 1)]
        for name, asked in lesson.predictions.items():
            letters = list(asked.choices)
            assert len(letters) >= 2 and letters == sorted(letters), name
            assert asked.because and asked.question.endswith("?"), name
            if isinstance(asked.answer, str):
                assert asked.answer in letters, name
            else:
                assert asked.expected in letters, f"{name}: say which answer `because` explains"

    def test_the_quiz_is_short_and_each_question_has_one_right_answer(self, lesson: Lesson) -> None:
        assert 2 <= len(lesson.quiz) <= 5
        for question in lesson.quiz:
            assert question.right in question.choices and len(question.choices) >= 3
            assert question.because

    def test_the_right_answers_are_not_all_the_same_letter(self, lesson: Lesson) -> None:
        if len(lesson.quiz) > 2:
            assert len({question.right for question in lesson.quiz}) > 1

    def test_its_checks_carry_its_number(self, lesson: Lesson) -> None:
        assert checks_of(lesson.number)
