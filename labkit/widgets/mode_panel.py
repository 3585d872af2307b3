"""Buttons for the mTLS mode of a namespace. A press calls the same function that a cell can call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets

from labkit.errors import LabError
from labkit.views.switches import draw_switches
from labkit.widgets.presence import Presence

MODES = ("UNSET", "DISABLE", "PERMISSIVE", "STRICT")
_TELLS = {
    "UNSET": "inherits: the namespace or the mesh decides",
    "DISABLE": "accepts plaintext only",
    "PERMISSIVE": "accepts mTLS and plaintext",
    "STRICT": "accepts mTLS only",
}


class ModePanel(ipywidgets.VBox):  # type: ignore[misc]  # the package has no types
    """UNSET, DISABLE, PERMISSIVE, STRICT for one namespace.

    `read` says which mode is effective now, `write` sets one. `text` is the panel in words. With `subscribe`, which
    calls back whenever something was changed, the buttons follow the cluster as long as a page shows them.
    """

    def __init__(
        self,
        namespace: str,
        *,
        read: Callable[[], str],
        write: Callable[[str], Any],
        subscribe: Callable[[Callable[[], None]], Callable[[], None]] | None = None,
    ) -> None:
        self.namespace = namespace
        self._read, self._write, self._subscribe = read, write, subscribe
        self._leave: Callable[[], None] | None = None
        self._showing = threading.local()  # who follows the cluster presses no button
        self._busy = False
        mode = read()
        self.buttons = ipywidgets.ToggleButtons(
            options=MODES,
            value=mode,
            description="",
            tooltips=[f"{name}: {_TELLS[name]}" for name in MODES],
            style={"button_width": "110px"},
        )
        self.message = ipywidgets.HTML()
        children = [ipywidgets.HTML(f"<b>mTLS mode of {escape(namespace)}</b>"), self.buttons, self.message]
        if subscribe:
            children.append(Presence(self.start, self.stop))
        super().__init__(children)
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

    def start(self) -> None:
        """Follow the cluster: as soon as a page shows the panel, by itself."""
        if self._subscribe and self._leave is None:
            self._leave = self._subscribe(self._follow)

    def stop(self) -> None:
        """Stop following: when no page shows the panel any more, by itself."""
        if self._leave:
            self._leave()
            self._leave = None

    def _follow(self) -> None:
        if self._busy:
            return
        try:
            mode = self._read()
        except LabError as error:
            self._say(error.what)
            return
        if mode != self.buttons.value:
            self._show(mode)

    def _show(self, mode: str) -> None:
        self._showing.now = True
        try:
            self.buttons.value = mode
        finally:
            self._showing.now = False
        self._say(f"{mode}: {_TELLS[mode]}")

    def _pressed(self, change: Any) -> None:
        if getattr(self._showing, "now", False):
            return
        self._busy = self.buttons.disabled = True
        self._say(f"setting {change['new']} …")
        try:
            self._write(change["new"])
        except LabError as error:
            self._show(change["old"])
            self._say(f"not changed. {error.what}")
        else:
            self._say(f"{change['new']}: {_TELLS[change['new']]}")
        finally:
            self._busy = self.buttons.disabled = False

    def _say(self, words: str) -> None:
        self._words = words
        self.message.value = f'<span role="status">{escape(words)}</span>'

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **options: Any) -> Any:
        picture = draw_switches([(self.namespace, MODES, self.mode)])
        return _with_text(super()._repr_mimebundle_(**options), self.text, picture)


def _with_text(bundle: Any, text: str, picture: str = "") -> Any:
    """The widget's bundle with its twins, words and an SVG, for whoever does not show widgets."""
    twins = {"text/plain": text, **({"image/svg+xml": picture} if picture else {})}
    if isinstance(bundle, tuple):
        return ({**bundle[0], **twins}, *bundle[1:])
    return {**(bundle or {}), **twins}
