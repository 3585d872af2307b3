"""What a check is, what it answers, and the facts of pods that checks judge."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from labkit.cluster import Cluster, Obj
from labkit.observe.objects import is_terminating, name_of, pod_status, ready_count


@dataclass(frozen=True)
class CheckResult:
    """One check's answer. `pending` means that the exercise is still blank: not passed, and no failure."""

    name: str
    passed: bool
    expected: str
    observed: str
    hint: str = ""
    pending: bool = False

    @property
    def word(self) -> str:
        return "passed" if self.passed else "not yet" if self.pending else "failed"

    def as_row(self) -> dict[str, Any]:
        """The result as JSON, for the file that $LABKIT_RESULTS names."""
        return asdict(self)

    def __bool__(self) -> bool:
        return self.passed

    def lines(self) -> list[str]:
        """Success is one line. Anything else shows expected, observed and one hint."""
        if self.passed:
            return []
        lines = [f"Expected: {self.expected}", f"Observed: {self.observed}"]
        return [*lines, f"Hint: {self.hint}"] if self.hint else lines

    def __str__(self) -> str:
        mark = "✔" if self.passed else "…" if self.pending else "✘"
        return "\n".join([f"{mark} {self.name}: {self.word}", *(f"  {line}" for line in self.lines())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        # Okabe-Ito bluish green, vermillion and grey; the sign and the word say the same.
        mark, colour = ("✔", "#009e73") if self.passed else ("…", "#808080") if self.pending else ("✘", "#d55e00")
        body = "".join(f'<div style="opacity:.9">{_marked(line)}</div>' for line in self.lines())
        return (
            f'<div role="status" style="border-left:4px solid {colour};padding:2px 10px;margin:4px 0;color:inherit;'
            f'line-height:1.5"><div><b style="color:{colour}">{mark} {self.word}</b> {escape(self.name)}</div>'
            f"{body}</div>"
        )


def _marked(line: str) -> str:
    """HTML of a line, in which `words` between backticks are code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(line))


@dataclass(frozen=True)
class CheckResults:
    """The results of several checks, those of one step. True when all have passed."""

    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        return bool(self.results) and all(result.passed for result in self.results)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return "\n".join(map(str, self.results)) or "There is nothing to check here."

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(result._repr_html_() for result in self.results) or str(self)


@dataclass(frozen=True)
class Judgement:
    """What a judge found; the check adds its name."""

    passed: bool
    expected: str
    observed: str
    hint: str = ""


@dataclass(frozen=True)
class Check:
    """A named check: how its evidence is collected when it is not handed in, and how it is judged.

    `takes` names the evidence in words. `collect` is None when the evidence has to be handed in. An `exercise`
    takes an attempt first, and is pending while that is blank.
    """

    name: str
    takes: str
    judge: Callable[..., Judgement]
    collect: Callable[[Cluster], tuple[Any, ...]] | None = None
    exercise: bool = False

    def result(self, *evidence: Any) -> CheckResult:
        """Judge the evidence. Evidence that cannot be judged is a failed check and not an error."""
        try:
            judgement = self.judge(*evidence)
        except (TypeError, AttributeError, KeyError, ValueError, IndexError):
            kinds = ", ".join(type(item).__name__ for item in evidence) or "nothing"
            hint = f"Hand in {self.takes}: lab.check({self.name!r}, ...)."
            return CheckResult(self.name, False, self.takes, f"evidence that cannot be judged ({kinds})", hint)
        hint = "" if judgement.passed else judgement.hint
        return CheckResult(self.name, judgement.passed, judgement.expected, judgement.observed, hint)

    def pending(self, expected: str = "an answer in place of the `...`") -> CheckResult:
        """The exercise is still blank."""
        return CheckResult(self.name, False, expected, "the blank is still there", "Replace the `...`.", pending=True)


@dataclass(frozen=True)
class PodFacts:
    """What checks want to know of one pod."""

    name: str
    ready: int
    total: int
    status: str = "Running"
    containers: tuple[str, ...] = ()
    init_completed: tuple[str, ...] = ()
    tls_mode: str = ""

    @property
    def ready_text(self) -> str:
        return f"{self.ready}/{self.total}"


def pod_facts(pods: Any) -> list[PodFacts]:
    """The facts of pods from a table of lab.pods(), or from objects of the API. Pods that are ending do not count."""
    if hasattr(pods, "to_dict"):
        return [_from_row(row) for row in pods.to_dict("records") if row.get("STATUS") != "Terminating"]
    objects: Iterable[Obj] = pods
    return [pod if isinstance(pod, PodFacts) else _from_object(pod) for pod in objects if not _ending(pod)]


def _ending(pod: Any) -> bool:
    return isinstance(pod, dict) and is_terminating(pod)


def _from_row(row: dict[str, Any]) -> PodFacts:
    ready, _, total = str(row["READY"]).partition("/")
    return PodFacts(str(row["NAME"]), int(ready), int(total), str(row.get("STATUS", "")))


def _from_object(pod: Obj) -> PodFacts:
    ready, total = ready_count(pod)
    init = pod.get("status", {}).get("initContainerStatuses") or []
    completed = [state["name"] for state in init if _exit_code(state) == 0]
    names = [c["name"] for c in (pod["spec"].get("initContainers") or []) if c.get("restartPolicy") == "Always"]
    names += [container["name"] for container in pod["spec"]["containers"]]
    labels = pod["metadata"].get("labels") or {}
    tls_mode = labels.get("security.istio.io/tlsMode", "")
    return PodFacts(name_of(pod), ready, total, pod_status(pod), tuple(names), tuple(completed), tls_mode)


def _exit_code(state: Obj) -> int | None:
    ended = (state.get("state") or {}).get("terminated")
    return int(ended["exitCode"]) if ended else None
