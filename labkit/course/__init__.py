"""The course as data: each lesson's world, steps, predictions and quiz, in one module for each lesson.

A module `lesson05.py` with a `LESSON` is found by its name, so that a new lesson is a new file and no other changes.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache

from labkit.course.applications import APPLICATIONS
from labkit.course.model import Act, Application, Lesson, Prediction, Question, Step, World, by_outcome, by_status
from labkit.errors import InputError

__all__ = [
    "APPLICATIONS",
    "Act",
    "Application",
    "Lesson",
    "Prediction",
    "Question",
    "Step",
    "World",
    "by_outcome",
    "by_status",
    "find_lesson",
    "find_prediction",
    "find_question",
    "find_step",
    "lessons",
]


@cache
def lessons() -> dict[str, Lesson]:
    """All lessons by number, in order."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if re.fullmatch(r"lesson\d\d", m.name))
    found = [importlib.import_module(f"{__name__}.{name}").LESSON for name in names]
    return {lesson.number: lesson for lesson in found}


def find_lesson(number: str) -> Lesson:
    """A lesson by its number, "05", "5" or "05.2" or the name of its notebook. Raises InputError, which lists them."""
    lesson = lessons().get(str(number).zfill(2)[:2])
    if lesson is None:
        raise InputError(
            f"There is no lesson {number!r}.", next_step=f"Lessons: {', '.join(lessons())}.", lesson=number
        )
    return lesson


def find_step(name: str) -> Step:
    """The step "05.2": the second of lesson 05."""
    lesson = find_lesson(name)
    place = str(name)[3:]
    if not place.isdecimal() or not 1 <= int(place) <= len(lesson.steps):
        raise InputError(
            f"Lesson {lesson.number} has no step {name!r}.",
            next_step=f"Its steps: {_numbered(lesson)}.",
            step=name,
        )
    return lesson.steps[int(place) - 1]


def find_prediction(name: str) -> Prediction:
    """A lesson's prediction by its name, "05.1". Raises InputError, which lists them."""
    lesson = find_lesson(name)
    if name not in lesson.predictions:
        known = ", ".join(lesson.predictions) or "none"
        raise InputError(
            f"There is no prediction {name!r}.", next_step=f"Predictions of the lesson: {known}.", name=name
        )
    return lesson.predictions[name]


def find_question(number: str, place: int) -> Question:
    """A question of a lesson's quiz, counted from 1."""
    quiz = find_lesson(number).quiz
    if not isinstance(place, int) or not 1 <= place <= len(quiz):
        raise InputError(
            f"The quiz of lesson {str(number)[:2]} has no question {place!r}.",
            next_step=f"It has {len(quiz)} questions, counted from 1.",
            question=place,
        )
    return quiz[place - 1]


def _numbered(lesson: Lesson) -> str:
    return "; ".join(f"{lesson.number}.{n} {step.title}" for n, step in enumerate(lesson.steps, 1)) or "it has none"
