"""How the course answers: a commitment, a comparison, a quiz's verdict, and the progress of a learner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from labkit.course import Lesson, Prediction, Question
from labkit.course.progress import LessonProgress
from labkit.views.page import card

_GOOD, _OTHER = "#009e73", "#d55e00"  # Okabe-Ito bluish green and vermillion; the words say the same
BAR = 20


def _card(colour: str, title: str, lines: Sequence[str]) -> str:
    return f'<div role="status">{card(title, lines, colour=colour)}</div>'


@dataclass(frozen=True, repr=False)
class Commitment:
    """A prediction that a learner has made; nothing is revealed yet."""

    name: str
    prediction: Prediction
    letter: str

    def __str__(self) -> str:
        return f"You predict: {self.letter}) {self.prediction.choices[self.letter]} Now see what happens."

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _card("#808080", str(self), ())


@dataclass(frozen=True, repr=False)
class Comparison:
    """A prediction beside what came true. A wrong one is no failure: it teaches the most."""

    name: str
    prediction: Prediction
    said: str  # a letter, or empty when nothing was predicted
    true: str  # a letter, or empty when what was seen is none of the choices

    @property
    def right(self) -> bool:
        return bool(self.said) and self.said == self.true

    def _choice(self, letter: str) -> str:
        return f"{letter}) {self.prediction.choices[letter]}" if letter else ""

    def _title(self) -> str:
        if not self.said:
            return "You made no prediction."
        return "As you predicted." if self.right else "Not as you predicted."

    def _lines(self) -> list[str]:
        said = f"You said: {self._choice(self.said)}" if self.said else ""
        seen = f"It is: {self._choice(self.true)}" if self.true else "What was seen is none of the choices."
        return [line for line in (said, seen, self.prediction.why(self.true)) if line]

    def __str__(self) -> str:
        return "\n".join([self._title(), *(f"  {line}" for line in self._lines())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _card(_GOOD if self.right else _OTHER, self._title(), self._lines())


@dataclass(frozen=True, repr=False)
class Answered:
    """What a quiz says to an answer."""

    question: Question
    letter: str

    @property
    def right(self) -> bool:
        return self.letter == self.question.right

    def _title(self) -> str:
        return (
            "Right."
            if self.right
            else f"Not quite: {self.question.right}) {self.question.choices[self.question.right]}"
        )

    def __bool__(self) -> bool:
        return self.right

    def __str__(self) -> str:
        return f"{self._title()} {self.question.because}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _card(_GOOD if self.right else _OTHER, self._title(), [self.question.because])


class Words(str):
    """A text that a cell shows as it is: without quotation marks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, repr=False)
class DrillSheet:
    """What a learner is told of a drill: the symptom, and when it counts as healed."""

    name: str
    title: str
    story: str
    hints: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"Drill {self.name}: {self.title}\n{self.story}\nRepair it, then ask lab.check_drill()."

    __repr__ = __str__

    def _repr_html_(self) -> str:
        hints = "".join(
            f"<details><summary>Hint {number}</summary>{escape(hint)}</details>"
            for number, hint in enumerate(self.hints, 1)
        )
        then = "<div>Repair it, then ask <code>lab.check_drill()</code>.</div>"
        return _card(_OTHER, f"Drill {self.name}: {self.title}", [self.story]) + hints + then


@dataclass(frozen=True, repr=False)
class DrillResult:
    """Whether a drill is healed: what was looked at, and (healed) the cause and the shortest repair."""

    name: str
    healed: bool
    found: tuple[tuple[bool, str, str], ...]  # passed, expected, observed
    cause: str = ""
    shortest: str = ""

    def __bool__(self) -> bool:
        return self.healed

    def _title(self) -> str:
        return f"Drill {self.name}: " + ("healed" if self.healed else "not yet")

    def _lines(self) -> list[str]:
        lines = []
        for passed, expected, observed in self.found:
            lines.append(f"✔ {expected}" if passed else f"✘ Expected: {expected}. Observed: {observed}")
        if self.healed:
            lines += [f"Cause: {self.cause}", f"The shortest repair: {self.shortest}"]
        return lines

    def __str__(self) -> str:
        return "\n".join([self._title(), *(f"  {line}" for line in self._lines())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _card(_GOOD if self.healed else _OTHER, self._title(), self._lines())


@dataclass(frozen=True)
class ProgressRow:
    """One lesson of a learner's progress."""

    number: str
    title: str
    checks: int
    of_checks: int
    answers: int
    of_answers: int

    @property
    def done(self) -> bool:
        return self.checks >= self.of_checks and self.answers >= self.of_answers

    @property
    def share(self) -> float:
        whole = self.of_checks + self.of_answers
        return (self.checks + self.answers) / whole if whole else 1.0


@dataclass(frozen=True, repr=False)
class Progress:
    """How far a learner has come, lesson by lesson: a bar and a table, and the same as text."""

    rows: tuple[ProgressRow, ...]

    @property
    def share(self) -> float:
        whole = sum(row.of_checks + row.of_answers for row in self.rows)
        return sum(row.checks + row.answers for row in self.rows) / whole if whole else 0.0

    @property
    def next_lesson(self) -> str:
        return next((row.number for row in self.rows if not row.done), "")

    def _summary(self) -> str:
        done = sum(row.done for row in self.rows)
        text = f"{self.share:.0%}: {done} of {len(self.rows)} lessons complete"
        return f"{text}; next: lesson {self.next_lesson}" if self.next_lesson else text

    def __str__(self) -> str:
        lines = [f"[{_bar(self.share)}] {self._summary()}"]
        for row in self.rows:
            counts = f"{row.checks}/{row.of_checks} checks, {row.answers}/{row.of_answers} quiz"
            lines.append(f"  {'✔' if row.done else ' '} {row.number} {row.title:<58} {counts}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="text-align:left">{"✔ " if row.done else ""}{row.number} {escape(row.title)}</td>'
            f"<td>{_meter(row.share)}</td><td>{row.checks}/{row.of_checks}</td>"
            f"<td>{row.answers}/{row.of_answers}</td></tr>"
            for row in self.rows
        )
        head = '<tr><th style="text-align:left">LESSON</th><th></th><th>CHECKS</th><th>QUIZ</th></tr>'
        return f"<div>{_meter(self.share)} <b>{self._summary()}</b></div><table>{head}{rows}</table>"


def _bar(share: float) -> str:
    full = int(share * BAR)
    return "#" * full + "." * (BAR - full)


def _meter(share: float) -> str:
    label = f"{share:.0%}"
    return (
        f'<svg role="img" aria-label="{label}" width="120" height="10"><rect width="120" height="10" rx="3" '
        f'fill="#808080" fill-opacity=".3"/><rect width="{120 * share:.0f}" height="10" rx="3" fill="{_GOOD}"/></svg>'
    )


def make_progress(
    lessons: Mapping[str, Lesson], checks: Mapping[str, set[str]], known: Mapping[str, LessonProgress]
) -> Progress:
    """Progress of what is known; `checks` has the names of each lesson's checks."""
    rows = []
    for number, lesson in lessons.items():
        done = known.get(number, LessonProgress())
        passed = len(done.checks & checks.get(number, set()))
        rows.append(
            ProgressRow(
                number,
                lesson.title,
                passed,
                len(checks.get(number, ())),
                min(len(done.answers), len(lesson.quiz)),
                len(lesson.quiz),
            )
        )
    return Progress(tuple(rows))
