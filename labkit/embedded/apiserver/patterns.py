"""Regular expressions of other people, matched in time that grows with the text and no faster.

A schema's `pattern` comes from a client. Go matches it in linear time; Python's `re` takes forever on `^(a+)+$` and
sixty letters. So all but the simplest are run here as automata: sets of states, each step remembered. What Go does
not know either (looking around, back references) is refused. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

Test = Callable[[str], bool]

MAX_STATES = 20_000
MAX_REMEMBERED = 20_000
PLAIN_LENGTH = 1_000  # up to here `re` is quick with at most one repetition
_VARIABLE = (sre.MAX_REPEAT, sre.MIN_REPEAT)
_CATEGORIES: dict[Any, Test] = {
    sre.CATEGORY_DIGIT: str.isdecimal,
    sre.CATEGORY_NOT_DIGIT: lambda c: not c.isdecimal(),
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_NOT_SPACE: lambda c: not c.isspace(),
    sre.CATEGORY_WORD: lambda c: c.isalnum() or c == "_",
    sre.CATEGORY_NOT_WORD: lambda c: not (c.isalnum() or c == "_"),
}


class Pattern:
    """A compiled expression. Raises `re.error` for what Go would not take."""

    def __init__(self, text: str) -> None:
        self._plain = re.compile(text)
        tree = _parser.parse(text)
        self._repeats = 0
        self._tests: list[Test | None] = []  # of a state that reads a character
        self._next: list[list[int]] = []  # where a state leads
        self._guards: list[Any] = []  # of a state that asserts a place
        self._end = self._state()
        self._start = self._sequence(list(tree), self._end, tree.state.flags)
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def found_in(self, value: str) -> bool:
        """Whether the expression matches anywhere in the value."""
        if self._repeats <= 1 and len(value) <= PLAIN_LENGTH:
            return bool(self._plain.search(value))
        current = self._closure({self._start}, "", value[:1])
        for i, character in enumerate(value):
            if self._end in current:
                return True
            following = value[i + 1 : i + 2]
            key = (current, character + following)
            if key not in self._steps:
                if len(self._steps) > MAX_REMEMBERED:
                    self._steps.clear()
                moved = {n for s in current if (t := self._tests[s]) and t(character) for n in self._next[s]}
                self._steps[key] = self._closure(moved | {self._start}, character, following)
            current = self._steps[key]
        return self._end in current

    def _closure(self, states: set[int], before: str, after: str) -> frozenset[int]:
        """The states reached without reading, between two characters (empty: an end of the text)."""
        seen: set[int] = set()
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state in seen:
                continue
            seen.add(state)
            guard = self._guards[state]
            if self._tests[state] is None and (guard is None or _holds(guard, before, after)):
                waiting += self._next[state]
        return frozenset(s for s in seen if self._tests[s] or s == self._end)

    # Building, from the end to the start.

    def _state(self, test: Test | None = None, *following: int, guard: Any = None) -> int:
        if len(self._next) >= MAX_STATES:
            raise re.error("expression is too large")
        self._tests.append(test)
        self._next.append(list(following))
        self._guards.append(guard)
        return len(self._next) - 1

    def _sequence(self, items: list[Any], after: int, flags: int) -> int:
        for op, value in reversed(items):
            after = self._item(op, value, after, flags)
        return after

    def _item(self, op: Any, value: Any, after: int, flags: int) -> int:
        if op in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            return self._state(_test(op, value, flags), after)
        if op is sre.BRANCH:
            return self._state(None, *(self._sequence(list(each), after, flags) for each in value[1]))
        if op is sre.SUBPATTERN:
            return self._sequence(list(value[3]), after, (flags | value[1]) & ~value[2])
        if op in _VARIABLE:
            least, most, body = value
            return self._repeat(least, most, body, after, flags)
        if op is sre.AT and not flags & re.MULTILINE:
            return self._state(None, after, guard=value)
        raise re.error("invalid or unsupported Perl syntax")

    def _repeat(self, least: int, most: Any, body: Any, after: int, flags: int) -> int:
        self._repeats += least != most
        items = list(body)
        if most is sre.MAXREPEAT:
            loop = self._state(None)
            self._next[loop] = [self._sequence(items, loop, flags), after]
            after = loop
        else:
            if most > MAX_STATES:
                raise re.error("invalid repeat count")
            end = after
            for _ in range(int(most) - int(least)):
                after = self._state(None, self._sequence(items, after, flags), end)
        for _ in range(min(int(least), MAX_STATES)):
            after = self._sequence(items, after, flags)
        return after


def _holds(guard: Any, before: str, after: str) -> bool:
    if guard in (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING):
        return not before
    if guard in (sre.AT_END, sre.AT_END_STRING):
        return not after
    word = _CATEGORIES[sre.CATEGORY_WORD]
    boundary = bool(before and word(before)) != bool(after and word(after))
    return boundary if guard is sre.AT_BOUNDARY else not boundary


def _test(op: Any, value: Any, flags: int) -> Test:
    if op is sre.LITERAL:
        one = chr(value)
        test: Test = one.__eq__
    elif op is sre.NOT_LITERAL:
        other = chr(value)
        test = other.__ne__
    elif op is sre.ANY:
        return (lambda c: True) if flags & re.DOTALL else (lambda c: c != "\n")
    else:
        test = _set_test(value)
    if flags & re.IGNORECASE:
        return lambda c: test(c) or test(c.lower()) or test(c.upper())
    return test


def _set_test(members: list[Any]) -> Test:
    negated = members[0][0] is sre.NEGATE
    tests: list[Test] = []
    for op, value in members[negated:]:
        if op is sre.RANGE:
            tests.append(lambda c, low=value[0], high=value[1]: low <= ord(c) <= high)  # type: ignore[misc]
        elif op is sre.CATEGORY:
            tests.append(_CATEGORIES[value])
        else:
            tests.append(_test(op, value, 0))
    return lambda c: any(test(c) for test in tests) != negated


@lru_cache(maxsize=256)
def compiled(text: str) -> Pattern:
    """The pattern. Raises `re.error`, also for what only Python would take."""
    try:
        return Pattern(text)
    except (RecursionError, OverflowError):
        raise re.error("expression nests too deeply") from None
