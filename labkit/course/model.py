"""What a lesson consists of besides its text: the world it starts from, its steps, its predictions and its quiz.

Data alone: it knows no cluster. The acts of steps are functions that take a lab; `labkit.course.acts` makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.outcomes import Outcome

Act = Callable[[Any], object]
"""Does something with a lab, and returns what the lab's verb returned."""


@dataclass(frozen=True)
class Application:
    """One application of the lessons, in one form.

    `inject` says what its namespace asks for: sidecars, none, or (None) nothing is said and nothing is changed.
    `plain` says that its pods refuse a sidecar, whatever the namespace asks for.
    """

    namespace: str
    manifests: str
    inject: bool | None = True
    plain: bool = False


@dataclass(frozen=True)
class World:
    """What a lesson starts from: a mesh or none, an ingress gateway or none, applications. Never a policy.

    `makes` names namespaces that the lesson itself makes, beside those of applications: other worlds remove them.
    """

    mesh: bool = True
    gateway: bool = False
    applications: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One step of a lesson: what is done, and the checks that pass afterwards.

    The checks must fail before `act` was done. Where the world is right from the start, `without` takes the effect
    away, so that a test can see the checks fail. `covers` are rows of the coverage table.
    """

    title: str
    act: Act
    checks: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    without: Act | None = None


@dataclass(frozen=True)
class Prediction:
    """A question before a result is shown. `choices` maps a letter to an answer.

    `answer` is the right letter, or a function that reads it from what was seen. `because` explains the `expected` one
    (the answer, if that is a letter); when something else was seen, it says nothing.
    """

    question: str
    choices: Mapping[str, str]
    answer: str | Callable[..., str]
    because: str
    expected: str = ""

    def why(self, letter: str) -> str:
        """The explanation, if what was seen is what it explains."""
        expected = self.expected or (self.answer if isinstance(self.answer, str) else letter)
        return self.because if letter == expected else ""

    def right(self, *seen: Any) -> str:
        """The letter that holds, by what was seen."""
        return self.answer if isinstance(self.answer, str) else self.answer(*seen)


def by_outcome(*, mtls: str = "", plaintext: str = "", refused: str = "") -> Callable[..., str]:
    """The letter for what became of a request, read from the observation of `lab.probe`."""
    letters = {Outcome.MTLS: mtls, Outcome.PLAINTEXT: plaintext, Outcome.REFUSED: refused}
    return lambda seen: letters.get(seen.outcome, "")


def by_status(letters: Mapping[int | None, str]) -> Callable[..., str]:
    """The letter for an answer's HTTP status; None stands for no answer at all."""
    return lambda seen: letters.get(seen.http_status, "")


@dataclass(frozen=True)
class Question:
    """One question of a quiz, with one right answer and the reason for it."""

    question: str
    choices: Mapping[str, str]
    right: str
    because: str


@dataclass(frozen=True)
class Lesson:
    """A lesson's data; its text is the notebook of the same number."""

    number: str
    title: str
    world: World
    steps: tuple[Step, ...] = ()
    predictions: Mapping[str, Prediction] = field(default_factory=dict)
    quiz: tuple[Question, ...] = ()
