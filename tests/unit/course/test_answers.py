"""Predictions and quizzes without a cluster: committing, comparing, answering, and the panels' text twins."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.course import Prediction, by_outcome, by_status, find_lesson, find_prediction, find_step, progress
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.outcomes import Observation, Outcome
from labkit.views.course import Comparison


class NoCluster:
    def close(self) -> None: ...


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("LABKIT_CI", "1")
    cluster: Any = NoCluster()
    return Lab(cluster)


def seen(outcome: Outcome, status: int | None = None) -> Observation:
    return Observation(outcome=outcome, http_status=status, exit_code=0 if status else 56)


def test_a_prediction_is_compared_with_what_was_seen(lab: Lab) -> None:
    lab.predict("04.1", "c")
    assert lab.compare("04.1", seen(Outcome.REFUSED)).right
    compared = lab.compare("04.1", seen(Outcome.PLAINTEXT, 200))
    assert not compared.right
    assert "You said: c)" in str(compared) and "It is: b)" in str(compared)


def test_the_reason_is_given_for_what_it_explains_alone(lab: Lab) -> None:
    because = find_prediction("04.1").because
    lab.predict("04.1", "a")
    assert because in str(lab.compare("04.1", seen(Outcome.REFUSED)))
    assert because not in str(lab.compare("04.1", seen(Outcome.MTLS, 200)))


def test_who_predicted_nothing_is_told_what_came_true(lab: Lab) -> None:
    compared = lab.compare("04.1", seen(Outcome.REFUSED))
    assert str(compared).startswith("You made no prediction.") and "It is: c)" in str(compared)


def test_what_none_of_the_choices_foresaw_is_said(lab: Lab) -> None:
    assert "none of the choices" in str(lab.compare("04.1", seen(Outcome.TLS, 200)))


def test_an_answer_that_does_not_exist_is_one_clear_error(lab: Lab) -> None:
    for wrong in (lambda: lab.predict("04.1", "z"), lambda: lab.answer("04", 1, "z")):
        with pytest.raises(InputError, match="none of the answers"):
            wrong()
    with pytest.raises(InputError, match=r"no prediction '04\.9'"):
        lab.predict("04.9")
    with pytest.raises(InputError, match="no question 9"):
        lab.answer("04", 9, "a")
    with pytest.raises(InputError, match=r"no step '04\.9'"):
        lab.check("04.9")
    with pytest.raises(InputError, match="cannot be compared"):
        lab.compare("04.1")


def test_the_panel_asks_commits_once_and_has_a_text_twin(lab: Lab) -> None:
    panel = lab.predict("04.1")
    assert 'lab.predict("04.1", "a")' in panel.text and "c) It is refused." in panel.text
    assert panel.button.disabled
    panel.choice.value = "c"
    assert not panel.button.disabled
    panel.button.click()
    assert "You predict: c)" in panel.text and panel.choice.disabled
    panel.commit("a")
    assert lab.compare("04.1", seen(Outcome.REFUSED)).right, "the first commitment counts"


def test_the_quiz_answers_with_a_reason(lab: Lab) -> None:
    quiz = lab.quiz("04")
    assert quiz.text.startswith("1. ") and "2. " in quiz.text
    right = find_lesson("04").quiz[0].right
    assert quiz.panels[0].commit(right)
    assert "Right." in quiz.text
    wrong = lab.answer("04", 2, "a")
    assert not wrong and str(wrong).startswith("Not quite: c)")


def test_letters_are_read_from_outcomes_and_statuses() -> None:
    assert by_outcome(mtls="a", refused="b")(seen(Outcome.REFUSED)) == "b"
    assert by_outcome(mtls="a")(seen(Outcome.PLAINTEXT)) == ""
    letters = by_status({200: "a", None: "b"})
    assert (letters(seen(Outcome.MTLS, 200)), letters(seen(Outcome.REFUSED)), letters(seen(Outcome.MTLS, 503))) == (
        "a",
        "b",
        "",
    )


def test_steps_are_named_by_their_place() -> None:
    assert find_step("04.2").title == "Apply STRICT"


def test_a_fixed_answer_needs_nothing_to_be_seen() -> None:
    asked = Prediction("Really?", {"a": "yes", "b": "no"}, "b", "It is not.")
    assert Comparison("05.1", asked, "b", asked.right()).right


def test_nothing_is_recorded_in_a_run_without_a_learner(lab: Lab) -> None:
    lab.answer("04", 1, "a")
    assert "1" not in progress.read_progress().get("04", progress.LessonProgress()).answers
