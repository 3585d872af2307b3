"""Whether any page shows a widget: ipywidgets itself does not tell when an output is cleared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anywidget

_ESM = """
function render({ model }) {
  const id = Math.random().toString(36).slice(2);
  const tell = (open) => { try { model.send({ kind: "view", id, open }); } catch { /* the kernel has gone first */ } };
  const leave = () => tell(false);
  window.addEventListener("pagehide", leave);
  tell(true);
  return () => { window.removeEventListener("pagehide", leave); tell(false); };
}
export default { render };
"""


class Presence(anywidget.AnyWidget):  # type: ignore[misc]  # the package has no types
    """An invisible part of a widget, which says when the first page shows it and when the last one has gone."""

    _esm = _ESM

    def __init__(self, appeared: Callable[[], None], gone: Callable[[], None]) -> None:
        super().__init__(layout={"display": "none"})
        self._appeared, self._gone = appeared, gone
        self._pages: set[str] = set()
        self.on_msg(self._heard)

    def _heard(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        if content.get("kind") != "view":
            return
        before = bool(self._pages)
        (self._pages.add if content.get("open") else self._pages.discard)(str(content.get("id")))
        if self._pages and not before:
            self._appeared()
        elif before and not self._pages:
            self._gone()
