"""A question with a few answers: commit to one, then see what is said about it. For predictions and quizzes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets

from labkit.errors import LabError
from labkit.widgets.mode_panel import _with_text


class ChoicePanel(ipywidgets.VBox):  # type: ignore[misc]  # the package has no types
    """One question. `answer` is called with the letter that was chosen, once; what it returns is shown."""

    def __init__(
        self, question: str, choices: Mapping[str, str], *, answer: Callable[[str], Any], hint: str = ""
    ) -> None:
        self.question, self.choices = question, dict(choices)
        self._answer, self._hint = answer, hint
        self.reply: Any = None
        self.choice = ipywidgets.RadioButtons(
            options=[(f"{letter}) {text}", letter) for letter, text in self.choices.items()],
            value=None,
            layout={"width": "auto"},
        )
        self.button = ipywidgets.Button(description="I commit to this", disabled=True, button_style="primary")
        self.words = ipywidgets.HTML()
        super().__init__([ipywidgets.HTML(f"<b>{escape(question)}</b>"), self.choice, self.button, self.words])
        self.choice.observe(self._chosen, names="value")
        self.button.on_click(lambda _: self._commit())

    def commit(self, letter: str) -> Any:
        """Choose and commit, from code."""
        self.choice.value = letter
        self._commit()
        return self.reply

    @property
    def text(self) -> str:
        """The panel in words."""
        lines = [self.question, *(f"  {letter}) {text}" for letter, text in self.choices.items())]
        return "\n".join([*lines, str(self.reply) if self.reply is not None else self._hint]).rstrip()

    def _chosen(self, change: Any) -> None:
        self.button.disabled = change["new"] is None or self.reply is not None

    def _commit(self) -> None:
        if self.choice.value is None or self.reply is not None:
            return
        try:
            self.reply = self._answer(str(self.choice.value))
        except LabError as error:
            self.words.value = f'<span role="status">{escape(error.what)}</span>'
            return
        self.choice.disabled = self.button.disabled = True
        shown = self.reply._repr_html_() if hasattr(self.reply, "_repr_html_") else escape(str(self.reply))
        self.words.value = f'<div role="status">{shown}</div>'

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return _with_text(super()._repr_mimebundle_(**options), self.text)


class QuizPanel(ipywidgets.VBox):  # type: ignore[misc]  # the package has no types
    """Several questions, one below the other."""

    def __init__(self, panels: Sequence[ChoicePanel]) -> None:
        self.panels = tuple(panels)
        super().__init__(list(self.panels))

    @property
    def text(self) -> str:
        """The quiz in words."""
        return "\n\n".join(f"{number}. {panel.text}" for number, panel in enumerate(self.panels, 1))

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return _with_text(super()._repr_mimebundle_(**options), self.text)
