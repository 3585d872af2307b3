"""How far a learner has come: one small file, which survives restarts of kernels, clusters and machines.

It stands in `$LABKIT_HOME`, else where this system keeps a user's data. A file that cannot be read or written costs
the memory and nothing else: progress never stops a lesson.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

FILE = "progress.json"
DRILLS = "drills"


@dataclass
class LessonProgress:
    """What a learner has done of one lesson."""

    checks: set[str] = field(default_factory=set)
    answers: dict[str, bool] = field(default_factory=dict)  # the quiz: question -> answered right at first
    predictions: dict[str, bool] = field(default_factory=dict)


def progress_file() -> Path:
    """Where the progress stands."""
    home = os.environ.get("LABKIT_HOME")
    return (Path(home) if home else Path(platformdirs.user_data_dir("labkit"))) / FILE


def is_kept() -> bool:
    """Nothing is kept of runs without a learner: the runner says so in the environment."""
    return os.environ.get("LABKIT_CI", "") in ("", "0")


def read_progress() -> dict[str, LessonProgress]:
    """What is known, by lesson; empty when nothing is."""
    try:
        content = json.loads(progress_file().read_text(encoding="utf-8"))
        return {number: _lesson(one) for number, one in content["lessons"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def record_check(name: str) -> None:
    """A check has passed."""
    _record(name, lambda lesson: lesson.checks.add(name))


def record_answer(number: str, place: int, right: bool) -> None:
    """A question of the quiz was answered; the first answer counts."""
    _record(number, lambda lesson: lesson.answers.setdefault(str(place), right))


def record_prediction(name: str, right: bool) -> None:
    """A prediction was compared with what came true; the first one counts."""
    _record(name, lambda lesson: lesson.predictions.setdefault(name, right))


def record_drill(name: str) -> None:
    """A drill was healed."""
    _record(DRILLS, lambda drills: drills.checks.add(name))


def forget(number: str = "") -> None:
    """Forget one lesson, or everything."""
    with _locked():
        known = read_progress()
        _write({key: one for key, one in known.items() if number and key != number[:2]})


def _record(name: str, change: Any) -> None:
    if not is_kept():
        return
    with _locked():
        known = read_progress()
        change(known.setdefault(name if name == DRILLS else name[:2], LessonProgress()))
        _write(known)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    # Two notebooks may be open at once.
    with contextlib.suppress(OSError):
        progress_file().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        lock = progress_file().with_suffix(".lock").open("w")
    except OSError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(known: dict[str, LessonProgress]) -> None:
    lessons = {
        number: {"checks": sorted(one.checks), "answers": one.answers, "predictions": one.predictions}
        for number, one in sorted(known.items())
    }
    aside = progress_file().with_suffix(".new")
    with contextlib.suppress(OSError):
        aside.write_text(json.dumps({"lessons": lessons}, indent=1) + "\n", encoding="utf-8")
        aside.replace(progress_file())


def _lesson(content: dict[str, Any]) -> LessonProgress:
    answers = {str(key): bool(value) for key, value in content.get("answers", {}).items()}
    predictions = {str(key): bool(value) for key, value in content.get("predictions", {}).items()}
    return LessonProgress(set(content.get("checks", [])), answers, predictions)
