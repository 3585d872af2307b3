"""The course's verbs: worlds, steps, checks, predictions, quizzes, drills, progress. They decide nothing."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.cluster import Cluster
from labkit.course import Lesson, World, find_lesson, find_prediction, find_question, find_step, lessons, progress
from labkit.errors import InputError, LabError
from labkit.outcomes import Observation
from labkit.views.results import Done
from labkit.worlds import Journal, make_world

if TYPE_CHECKING:
    from labkit.checks import CheckResult, CheckResults
    from labkit.live.mesh import LiveMesh
    from labkit.views.course import Answered, Commitment, Comparison, DrillResult, DrillSheet, Progress, Words
    from labkit.views.tables import Table

STEP = re.compile(r"\d\d\.\d+")
BREAKING_SECONDS = 5.0
"""How long what breaks a drill's mesh may take to reach the proxies before the drill begins."""
HEALING_SECONDS = 3.0
"""How long a repair by kubectl may take to reach the proxies before a drill counts as not healed."""


class Course:
    """What Lab can do with lessons.

    lab.world("05")                          bring the cluster to what lesson 05 starts from; says what it changed
    lab.solve("05", step=3)                  do the steps of lesson 05 for real, up to and with step 3 (without: all)
    lab.reset("05")                          back to the lesson's start
    lab.leave()                              put back what was there when the notebook opened the lab
    lab.check("05-name", *evidence)          one check; lab.check("05.2") all checks of step 2
    lab.predict("05.1")                      a question before the result: a panel; twin: lab.predict("05.1", "b")
    lab.compare("05.1", observation)         the prediction beside what came true; never a failure
    lab.quiz("05")                           the lesson's quiz; twin: lab.answer("05", 1, "b")
    lab.door()                               the ingress gateway as a pod calls it, for probes from curl-outside
    lab.loop(client, url, times=10)          the same request several times, and how often each answer came
    lab.drill("strict-meets-stranger")       break the mesh; lab.check_drill() tells when it is healed;
                                             lab.hint() unfolds the next hint; lab.drills() lists them
    lab.progress()                           how far you have come
    """

    cluster: Cluster
    results: list[CheckResult]
    mesh_names: dict[str, str]
    probe: Callable[..., Observation]
    _journal: Journal
    _seen: list[Any]
    _followed: LiveMesh | None
    _lost: list[str]
    _commitments: dict[str, str]
    _drill: str
    _hints: int

    # -- the state of a lesson ----------------------------------------------------------------------------------

    def world(self, lesson: str, *, mesh_namespace: str = "istio-system", revision: str = "default") -> Done:
        """Bring the cluster to the state that the lesson starts from, and say what was changed."""
        self.mesh_names = {"namespace": mesh_namespace, "revision": revision}
        number = find_lesson(lesson).number
        return self._make(find_lesson(lesson).world, f"The cluster is as lesson {number} needs it")

    def reset(self, lesson: str) -> Done:
        """Bring the cluster back to where the lesson starts. Progress is kept."""
        found = find_lesson(lesson)
        return self._make(found.world, f"Lesson {found.number} starts again")

    def solve(self, lesson: str, step: int | None = None) -> Done:
        """Do the lesson's steps for real, in order, up to and with `step` (all of them when it is left out).

        "05.3" is lesson 05 up to step 3.
        """
        started = time.monotonic()
        found = find_lesson(lesson)
        if step is None and STEP.fullmatch(str(lesson)):
            step = int(str(lesson)[3:])
        until = len(found.steps) if step is None else step
        if not isinstance(until, int) or not 0 <= until <= len(found.steps):
            raise InputError(
                f"Lesson {found.number} has no step {step!r}.",
                next_step=f"It has {len(found.steps)} steps; 0 is the start.",
                step=step,
            )
        made = self._make(found.world, "")
        lines, kubectl, warnings = list(made.lines), list[str](), list[str]()
        for place, one in enumerate(found.steps[:until], 1):
            kubectl += _commands(one.act(self))
            lines.append(f"did {found.number}.{place} {one.title}")
            failed = [result for name in one.checks if not (result := self._judge(name))]
            warnings += [f"{result.name}: expected {result.expected}, observed {result.observed}" for result in failed]
        what = f"Lesson {found.number} is solved up to step {until} of {len(found.steps)}"
        return Done(what, tuple(lines), tuple(kubectl), tuple(warnings), time.monotonic() - started)

    def leave(self) -> Done:
        """Put back what was there when this lab was opened, and send nothing any more."""
        started = time.monotonic()
        senders = self._followed.stop_traffic() if self._followed else 0
        undone, failed = self._journal.undo()
        if senders:
            undone.insert(0, f"stopped {senders} {'sender' if senders == 1 else 'senders'}")
        self._seen.clear()
        self._drill = ""
        lines = undone or ["there was nothing to put back"]
        what = "The cluster is as you found it"
        if failed:
            what += ", but for what is listed below: lab.leave() once more tries it again"
        if self._lost:
            what += ", but for what an earlier lesson had left"
            lines.append(f"not put back: {', '.join(dict.fromkeys(self._lost))}")
            self._lost.clear()
        return Done(what, tuple(lines), (), tuple(failed), time.monotonic() - started)

    def _make(self, world: World, what: str) -> Done:
        started = time.monotonic()
        names = self.mesh_names
        said = make_world(self, world, names["namespace"], names["revision"])  # type: ignore[arg-type]  # Lab is one
        self._seen.clear()
        self._drill = ""
        return Done(what, tuple(said or ["nothing had to be changed"]), seconds=time.monotonic() - started)

    # -- checks -------------------------------------------------------------------------------------------------

    def check(self, name: str | None = None, *evidence: Any) -> CheckResult | CheckResults | Table:
        """Judge evidence (collected when it is left out) and record the result. Never raises for a failed check."""
        from labkit.checks import CHECKS, CheckResults

        if name is None:
            rows = [(check.name, check.takes, "may be left out" if check.collect else "") for check in CHECKS.values()]
            return self._shown(("CHECK", "EVIDENCE", ""), rows)
        if STEP.fullmatch(str(name)):
            return CheckResults(tuple(self._record(self._judge(one)) for one in find_step(name).checks))
        return self._record(self._judge(name, *evidence))

    def _judge(self, name: str, *evidence: Any) -> CheckResult:
        from labkit.checks import CheckResult, find_check

        check = find_check(name)
        if check.exercise and (not evidence or evidence[0] is ... or getattr(evidence[0], "pending", False)):
            return check.pending()
        try:
            if check.collect and (check.exercise or not evidence):
                evidence = (*evidence, *check.collect(self.cluster))
        except LabError as error:
            return CheckResult(name, False, check.takes, error.what, error.next_step)
        return check.result(*evidence)

    def _record(self, result: CheckResult) -> CheckResult:
        self.results.append(result)
        if path := os.environ.get("LABKIT_RESULTS"):  # the runner counts what is written there
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(result.as_row()) + "\n")
        if result.passed:
            progress.record_check(result.name)
        return result

    # -- predictions and quizzes --------------------------------------------------------------------------------

    def _ask(self, name: str) -> Any:
        from labkit.widgets import ChoicePanel

        asked = find_prediction(name)
        hint = f'Commit to one: lab.predict("{name}", "{next(iter(asked.choices))}")'
        return ChoicePanel(asked.question, asked.choices, answer=lambda letter: self._commit(name, letter), hint=hint)

    def _commit(self, name: str, letter: str) -> Commitment:
        from labkit.views.course import Commitment

        asked = find_prediction(name)
        _require(letter, asked.choices)
        self._commitments[name] = letter
        return Commitment(name, asked, letter)

    def compare(self, name: str, *seen: Any) -> Comparison:
        """Put the prediction beside what came true. `seen` is what the prediction reads it from, if it needs that."""
        from labkit.views.course import Comparison

        asked = find_prediction(name)
        try:
            true = asked.right(*seen)
        except (TypeError, AttributeError, KeyError):
            raise InputError(
                "This prediction cannot be compared with that.",
                next_step=f'Hand in what was seen: lab.compare("{name}", observation).',
                name=name,
            ) from None
        compared = Comparison(name, asked, self._commitments.get(name, ""), true)
        if compared.said and compared.true:
            progress.record_prediction(name, compared.right)
        return compared

    def quiz(self, lesson: str) -> Any:
        """The quiz of a lesson, as a panel of questions; its text twin is `lab.answer`."""
        from labkit.widgets import ChoicePanel, QuizPanel

        found = find_lesson(lesson)
        return QuizPanel([self._question(ChoicePanel, found, place) for place in range(1, len(found.quiz) + 1)])

    def _question(self, panel: Any, lesson: Lesson, place: int) -> Any:
        asked = find_question(lesson.number, place)
        hint = f'Answer: lab.answer("{lesson.number}", {place}, "{next(iter(asked.choices))}")'
        choices = asked.choices
        return panel(
            asked.question, choices, answer=lambda letter: self.answer(lesson.number, place, letter), hint=hint
        )

    def answer(self, lesson: str, question: int, letter: str) -> Answered:
        """Answer a question of a quiz, counted from 1."""
        from labkit.views.course import Answered

        asked = find_question(lesson, question)
        _require(letter, asked.choices)
        answered = Answered(asked, letter)
        progress.record_answer(find_lesson(lesson).number, question, answered.right)
        return answered

    def progress(self) -> Progress:
        """How far you have come, lesson by lesson."""
        return show_progress()

    def door(self, scheme: str = "http") -> str:
        """The ingress gateway as a pod calls it; from this machine it is reached by `lab.gateway_url`."""
        from labkit.checks.evidence import gateway_door

        return gateway_door(self.cluster, scheme)

    def loop(self, client: str, url: str, times: int = 10, **options: Any) -> Table:
        """The same request several times, and how often each answer came: a `while true; do curl ...` with an end."""
        answers: dict[tuple[str, str], int] = {}
        for _ in range(times):
            seen = self.probe(client, url, **options)
            answers[seen.seen, str(seen.outcome)] = answers.get((seen.seen, str(seen.outcome)), 0) + 1
        return self._shown(("ANSWER", "CARRIED BY", "TIMES"), [(*key, count) for key, count in answers.items()])

    # -- drills -------------------------------------------------------------------------------------------------

    def drills(self) -> Table:
        """The drills there are, and which of them you have healed."""
        from labkit.drills import drills

        known = progress.read_progress().get(progress.DRILLS)
        healed = known.checks if known else set[str]()
        rows = [(one.name, one.title, "healed" if one.name in healed else "") for one in drills().values()]
        return self._shown(("DRILL", "WHAT IS REPORTED", "STATE"), rows)

    def drill(self, name: str) -> DrillSheet:
        """Break the mesh for real, and say what is reported. `lab.leave()` or the next world ends the drill."""
        from labkit.drills import find_drill
        from labkit.views.course import DrillSheet

        found = find_drill(name)
        self._make(found.world, "")
        found.breaks(self)
        until = time.monotonic() + BREAKING_SECONDS
        while all(expect(self.cluster).passed for expect in found.healed) and time.monotonic() < until:
            time.sleep(0.1)  # the learner's first look shall meet the symptom
        self._seen.clear()
        self._drill, self._hints = found.name, 0
        return DrillSheet(found.name, found.title, found.story, found.hints)

    def check_drill(self, name: str = "") -> DrillResult:
        """Whether the running drill (or one by its name) is healed; if so, the cause and the shortest repair."""
        from labkit.drills import find_drill
        from labkit.views.course import DrillResult

        found = find_drill(name or self._running_drill())
        until = time.monotonic() + HEALING_SECONDS
        while True:
            judged = [expect(self.cluster) for expect in found.healed]
            healed = all(one.passed for one in judged)
            if healed or time.monotonic() > until:
                break
            time.sleep(0.1)
        seen = tuple((one.passed, one.expected, one.observed) for one in judged)
        if healed:
            progress.record_drill(found.name)
        return DrillResult(found.name, healed, seen, found.cause if healed else "", found.shortest if healed else "")

    def heal(self) -> Done:
        """Do the shortest repair of the running drill, for real."""
        from labkit.drills import find_drill

        started = time.monotonic()
        found = find_drill(self._running_drill())
        kubectl = _commands(found.repair(self))
        return Done(f"Repaired {found.name}", (found.shortest,), tuple(kubectl), (), time.monotonic() - started)

    def hint(self) -> Words:
        """The next hint of the running drill."""
        from labkit.drills import find_drill
        from labkit.views.course import Words

        hints = find_drill(self._running_drill()).hints
        self._hints += 1
        if self._hints <= len(hints):
            return Words(hints[self._hints - 1])
        return Words("There are no more hints. lab.heal() does the shortest repair, lab.check_drill() explains it.")

    def _running_drill(self) -> str:
        if not self._drill:
            raise InputError(
                "No drill is running.",
                next_step='Start one: lab.drill("strict-meets-stranger"); lab.drills() lists them.',
            )
        return self._drill

    def _shown(self, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Table:
        from labkit.views.tables import make_table

        return make_table(columns, rows, drop=[])


def show_progress() -> Progress:
    """The progress of whoever runs this."""
    from labkit.checks import checks_of
    from labkit.views.course import make_progress

    checks = {number: {check.name for check in checks_of(number)} for number in lessons()}
    return make_progress(lessons(), checks, progress.read_progress())


def _require(letter: str, choices: Any) -> None:
    if letter not in choices:
        raise InputError(f"{letter!r} is none of the answers.", next_step=f"Choose one of {', '.join(choices)}.")


def _commands(result: object) -> list[str]:
    """The kubectl lines of what a verb, or several of them, returned."""
    if isinstance(result, list):
        return [line for one in result for line in _commands(one)]
    return list(result.kubectl) if isinstance(result, Done) else []
