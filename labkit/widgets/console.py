"""Controls, map and timeline on one screen."""

from __future__ import annotations

from typing import Any

import ipywidgets

from labkit.widgets.controls import Controls
from labkit.widgets.live_map import LiveMap
from labkit.widgets.mode_panel import _with_text


class Console(ipywidgets.HBox):  # type: ignore[misc]  # the package has no types
    """What a projector shows: the knobs at the left, what they do at the right."""

    def __init__(self, controls: Controls, live_map: LiveMap) -> None:
        self.controls, self.map = controls, live_map
        live_map.add_class("lkw-in-console")
        controls.layout = ipywidgets.Layout(width="462px", flex="0 0 auto", margin="0 18px 0 0")
        live_map.layout = ipywidgets.Layout(flex="1 1 0", min_width="0")
        super().__init__([controls, live_map], layout=ipywidgets.Layout(width="100%", align_items="flex-start"))
        self.add_class("labkit-console")

    @property
    def text(self) -> str:
        """Both in words."""
        return f"{self.map.text}\n{self.controls.text}"

    def close(self) -> None:
        """End for good."""
        self.controls.close()
        self.map.close()
        super().close()

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **options: Any) -> Any:
        self.map.displayed()
        return _with_text(super()._repr_mimebundle_(**options), self.text, self.map.now.svg)
