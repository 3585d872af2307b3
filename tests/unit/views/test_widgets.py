"""Widgets: wired to functions that are handed in, with a text twin."""

from __future__ import annotations

import pytest

from labkit.errors import InputError
from labkit.outcomes import Outcome, Verdict
from labkit.widgets import ModePanel, PredictPanel


class FakeMode:
    """A mode that is read and written; refuses what it is told to refuse."""

    def __init__(self, refuses: str = "") -> None:
        self.mode, self.refuses, self.written = "PERMISSIVE", refuses, list[str]()

    def read(self) -> str:
        return self.mode

    def write(self, mode: str) -> None:
        if mode == self.refuses:
            raise InputError("The namespace is gone.")
        self.written.append(mode)
        self.mode = mode


def panel(mode: FakeMode) -> ModePanel:
    return ModePanel("foo", read=mode.read, write=mode.write)


def test_a_press_calls_the_function_once() -> None:
    mode = FakeMode()
    shown = panel(mode)
    shown.choose("STRICT")
    assert mode.written == ["STRICT"]
    assert "STRICT: accepts mTLS only" in shown.text


def test_a_refused_press_goes_back_and_writes_nothing() -> None:
    mode = FakeMode(refuses="STRICT")
    shown = panel(mode)
    shown.choose("STRICT")
    assert (shown.mode, mode.written) == ("PERMISSIVE", [])
    assert "not changed. The namespace is gone." in shown.text


def test_refreshing_shows_and_does_not_write() -> None:
    mode = FakeMode()
    shown = panel(mode)
    mode.mode = "STRICT"
    shown.refresh()
    assert (shown.mode, mode.written) == ("STRICT", [])


def test_the_panel_has_a_text_twin() -> None:
    bundle = panel(FakeMode())._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["text/plain"].startswith("mTLS mode of foo: PERMISSIVE")
    assert "application/vnd.jupyter.widget-view+json" in data


def test_nothing_is_revealed_before_the_learner_commits() -> None:
    asked: list[int] = []

    def reveal() -> Verdict:
        asked.append(1)
        return Verdict(Outcome.REFUSED, ("Because.",), exit_code=56)

    shown = PredictPanel("What?", reveal=reveal)
    shown.choice.value = "mTLS"
    assert asked == [] and shown.right is None
    shown.button.click()
    assert asked == [1] and shown.right is False
    assert "You said mTLS." in shown.text


def test_a_prediction_is_final() -> None:
    shown = PredictPanel("What?", reveal=lambda: Verdict(Outcome.REFUSED))
    assert shown.commit("refused") is not None and shown.right is True
    shown.commit("mTLS")
    assert shown.committed is Outcome.REFUSED


@pytest.mark.parametrize("failing", [InputError("No such client.")])
def test_an_error_leaves_the_choice_open(failing: InputError) -> None:
    def reveal() -> Verdict:
        raise failing

    shown = PredictPanel("What?", reveal=reveal)
    shown.commit("refused")
    assert shown.committed is None and "No such client." in shown.text
