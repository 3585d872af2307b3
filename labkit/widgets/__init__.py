"""Controls in a lesson, wired to functions that are handed in. They compute nothing and know no cluster.

State travels through traits alone: `with Output()` and `interact` now and then hang a headless run for good.
"""

from labkit.widgets.choice_panel import ChoicePanel, QuizPanel
from labkit.widgets.mode_panel import ModePanel
from labkit.widgets.predict_panel import PredictPanel

__all__ = ["ChoicePanel", "ModePanel", "PredictPanel", "QuizPanel"]
