"""Commit to a prediction before the answer is shown."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets

from labkit.errors import LabError
from labkit.outcomes import Outcome, Verdict
from labkit.views.switches import draw_switches
from labkit.widgets.mode_panel import _with_text

CHOICES = (Outcome.MTLS, Outcome.PLAINTEXT, Outcome.REFUSED)


class PredictPanel(ipywidgets.VBox):  # type: ignore[misc]  # the package has no types
    """A question, three answers and a button. Only after the learner has committed does `reveal` get called."""

    def __init__(self, question: str, *, reveal: Callable[[], Verdict]) -> None:
        self.question = question
        self._reveal = reveal
        self.committed: Outcome | None = None
        self.verdict: Verdict | None = None
        self._words = "no prediction yet"
        self.choice = ipywidgets.RadioButtons(options=[str(c) for c in CHOICES], value=None, layout={"width": "auto"})
        self.button = ipywidgets.Button(description="I commit to this", disabled=True, button_style="primary")
        self.answer = ipywidgets.HTML()
        super().__init__([ipywidgets.HTML(f"<b>{escape(question)}</b>"), self.choice, self.button, self.answer])
        self.choice.observe(self._chosen, names="value")
        self.button.on_click(lambda _: self._commit())

    def commit(self, outcome: str) -> Verdict | None:
        """Choose and commit, from code."""
        self.choice.value = str(outcome)
        self._commit()
        return self.verdict

    @property
    def right(self) -> bool | None:
        """Whether the prediction was right; None before it is committed."""
        return None if self.verdict is None else self.verdict.outcome is self.committed

    @property
    def text(self) -> str:
        """The panel in words."""
        return f"{self.question} {self._words}"

    def _chosen(self, change: Any) -> None:
        self.button.disabled = change["new"] is None or self.committed is not None

    def _commit(self) -> None:
        if self.choice.value is None or self.committed is not None:
            return
        self.committed = Outcome(self.choice.value)
        self.choice.disabled = self.button.disabled = True
        try:
            self.verdict = self._reveal()
        except LabError as error:
            self.committed, self.choice.disabled = None, False
            self._words = error.what
            self.answer.value = f'<span role="status">{escape(error.what)}</span>'
            return
        word = "You said so." if self.right else f"You said {self.committed}."
        self._words = f"{word} {self.verdict}"
        self.answer.value = f'<div role="status"><b>{escape(word)}</b>{self.verdict._repr_html_()}</div>'

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **options: Any) -> Any:
        chosen = str(self.committed or "")
        picture = draw_switches([("Your prediction", [str(one) for one in CHOICES], chosen)])
        return _with_text(super()._repr_mimebundle_(**options), self.text, picture)
