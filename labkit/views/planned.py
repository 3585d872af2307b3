"""The way of a mesh to STRICT, as it is shown: where namespaces stand, and the steps with whom they would break."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.policy.declared.steps import Act, Plan, Step
from labkit.views.page import card, table
from labkit.views.results import BLUE, ORANGE

if TYPE_CHECKING:
    from labkit.views.tables import Table

STEP_COLUMNS = ("STEP", "WHAT", "WHERE", "WHY", "WOULD BREAK")
NAMESPACE_COLUMNS = ("NAMESPACE", "MODE", "SIDECARS", "CALLS IN PLAINTEXT", "STRICT")


class Planned:
    """The way of a mesh to STRICT."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.plan.steps

    @property
    def frame(self) -> Table:
        """The steps as a table."""
        from labkit.views.tables import make_table

        return make_table(STEP_COLUMNS, self._rows())

    @property
    def namespaces(self) -> Table:
        """Where each namespace stands now, as a table."""
        from labkit.views.tables import make_table

        return make_table(NAMESPACE_COLUMNS, (one.row() for one in self.plan.namespaces))

    @property
    def title(self) -> str:
        held = sum(step.act is Act.HOLD for step in self.steps)
        if not self.steps:
            return "Every sidecar is STRICT already" if self.plan.complete else "There is nothing to be made STRICT"
        if self.plan.complete:
            return f"{_steps(len(self.steps))} to STRICT for the whole mesh; nobody is cut off on the way"
        decisions = f", and {held} {'decision' if held == 1 else 'decisions'} to take" if held else ""
        return f"{_steps(len(self.steps) - held)} towards STRICT{decisions}"

    def manifests(self) -> dict[str, list[dict[str, Any]]]:
        """What the steps apply, by a name for a file."""
        found = {}
        for number, step in enumerate(self.steps, 1):
            if step.change.apply and step.act is not Act.HOLD:
                word = "-".join(str(step.act).lower().split())
                found[f"{number:02}-{word}.yaml"] = [dict(one) for one in step.change.apply]
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.plan.as_dict()

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (str(number), str(one.act), one.what, one.why, str(len(one.breaks)) if one.breaks else "nobody")
            for number, one in enumerate(self.steps, 1)
        ]

    def __str__(self) -> str:
        lines = [self.title, ""]
        lines += [str(self.namespaces), ""] if self.plan.namespaces else []
        for number, step in enumerate(self.steps, 1):
            lines.append(f"{number}. {step.act}: {step.what}")
            lines.append(f"   {_sentence(step.why)}")
            lines += [f"   Would break: {one.client} -> {one.server}. {one.why}" for one in step.breaks[:3]]
            if len(step.breaks) > 3:
                lines.append(f"   and {len(step.breaks) - 3} more calls.")
            lines += [f"   {note}" for note in step.notes]
            if step.act is not Act.HOLD:
                lines += [f"   $ {line}" for line in step.commands]
        return "\n".join([*lines, *(f"Note: {one}" for one in self.plan.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        colour = BLUE if self.plan.complete else ORANGE
        head = card(self.title, self.plan.notes, colour=colour)
        where = table(NAMESPACE_COLUMNS, (one.row() for one in self.plan.namespaces))
        steps = "".join(
            card(
                f"{number}. {one.act}: {one.what}",
                [_sentence(one.why), *one.notes, _who_breaks(one)],
                () if one.act is Act.HOLD else one.commands,
                colour=ORANGE if one.breaks or one.act is Act.HOLD else BLUE,
            )
            for number, one in enumerate(self.steps, 1)
        )
        return head + where + steps


def _steps(number: int) -> str:
    return "1 step" if number == 1 else f"{number} steps"


def _sentence(text: str) -> str:
    # Names such as shop/web keep their case.
    head = text if "/" in text.partition(" ")[0] else text[:1].upper() + text[1:]
    return f"{head.rstrip('.')}."


def _who_breaks(step: Step) -> str:
    if not step.breaks:
        return ""
    more = f" and {len(step.breaks) - 3} more calls" if len(step.breaks) > 3 else ""
    return "Would break: " + ", ".join(f"{one.client} -> {one.server}" for one in step.breaks[:3]) + more + "."
