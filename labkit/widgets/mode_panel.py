"""Buttons for the mTLS mode of a namespace. A press calls the same function that a cell can call."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets

from labkit.errors import LabError

MODES = ("UNSET", "DISABLE", "PERMISSIVE", "STRICT")
_TELLS = {
    "UNSET": "inherits: the namespace or the mesh decides",
    "DISABLE": "accepts plaintext only",
    "PERMISSIVE": "accepts mTLS and plaintext",
    "STRICT": "accepts mTLS only",
}


class ModePanel(ipywidgets.VBox):  # type: ignore[misc]  # the package has no types
    """UNSET, DISABLE, PERMISSIVE, STRICT for one namespace.

    `read` says which mode is effective now, `write` sets one. `text` is the panel in words.
    """

    def __init__(self, namespace: str, *, read: Callable[[], str], write: Callable[[str], Any]) -> None:
        self.namespace = namespace
        self._read, self._write = read, write
        self._following = False
        mode = read()
        self.buttons = ipywidgets.ToggleButtons(
            options=MODES,
            value=mode,
            description="",
            tooltips=[f"{name}: {_TELLS[name]}" for name in MODES],
            style={"button_width": "110px"},
        )
        self.message = ipywidgets.HTML()
        super().__init__([ipywidgets.HTML(f"<b>mTLS mode of {escape(namespace)}</b>"), self.buttons, self.message])
        self.buttons.observe(self._pressed, names="value")
        self._say(f"{mode}: {_TELLS[mode]}")

    @property
    def mode(self) -> str:
        """The mode that the panel shows."""
        return str(self.buttons.value)

    @property
    def text(self) -> str:
        """The panel in words."""
        return f"mTLS mode of {self.namespace}: {self._words}"

    def choose(self, mode: str) -> None:
        """Press a button, from code."""
        self.buttons.value = mode

    def refresh(self) -> None:
        """Show the mode that is effective now, without setting it."""
        self._show(self._read())

    def _show(self, mode: str) -> None:
        self._following = True
        try:
            self.buttons.value = mode
        finally:
            self._following = False
        self._say(f"{mode}: {_TELLS[mode]}")

    def _pressed(self, change: Any) -> None:
        if self._following:
            return
        try:
            self._write(change["new"])
        except LabError as error:
            self._show(change["old"])
            self._say(f"not changed. {error.what}")
        else:
            self._say(f"{change['new']}: {_TELLS[change['new']]}")

    def _say(self, words: str) -> None:
        self._words = words
        self.message.value = f'<span role="status">{escape(words)}</span>'

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return _with_text(super()._repr_mimebundle_(**options), self.text)


def _with_text(bundle: Any, text: str) -> Any:
    """The widget's bundle with its text twin, for whoever does not show widgets."""
    if isinstance(bundle, tuple):
        return ({**bundle[0], "text/plain": text}, *bundle[1:])
    return {**(bundle or {}), "text/plain": text}
