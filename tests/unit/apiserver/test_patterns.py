"""Patterns mean what Python's `re` says, and take no longer than the text is long."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.embedded.apiserver.patterns import Pattern

PATTERNS = [
    r"^[a-z]([-a-z0-9]*[a-z0-9])?(\.[a-z]+)*\Z",
    r"a+b|ba*",
    r"^(a|b){2,3}\Z",
    r"(?i)^A[b-d]*\Z",
    r"[^a]b?.c",
    r"\ba+\b",
    r"^\d+(\.\d+){0,2}$",
    r"(ab?)*?c",
    r"^$|^\S+@\S+$",
]


@given(st.sampled_from(PATTERNS), st.text(alphabet="aAbBcd.-1 @", max_size=12))
def test_the_automaton_agrees_with_re(text: str, value: str) -> None:
    pattern = Pattern(text)
    pattern._repeats = 2  # so that the short way is not taken
    assert pattern.found_in(value) == bool(re.search(text, value))


@pytest.mark.parametrize("text", [r"^(a+)+$", r"^(a|a)*$", r"a*a*a*a*a*b", r"(a?){30}a{30}b"])
def test_no_pattern_takes_forever(text: str) -> None:
    started = time.monotonic()
    assert not Pattern(text).found_in("a" * 20_000 + "!")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("text", ["(", "(?=a)", r"(a)\1", "(?<!a)b", "(a{1000}){1000}"])
def test_what_go_would_not_take_is_refused(text: str) -> None:
    with pytest.raises(re.error):
        Pattern(text)
