"""The filter expressions of tcpdump, as far as a pod's TCP traffic needs them. Pure.

`[src|dst] host A`, `[src|dst] port N`, `[src|dst] portrange A-B`, `tcp`, `ip`, with `and`, `or`, `not` and brackets;
https://www.tcpdump.org/manpages/pcap-filter.7.html. `and` and `or` bind equally and from the left, as there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address

from labkit.embedded.wire.segments import Address
from labkit.errors import InputError

End = Address | None
Matches = Callable[[End, End], bool | None]
"""Whether a packet from the first address to the second one is wanted.

A client that is not known yet is None, and so is the answer, if it depends on its address: so one can ask beforehand
whether a server's packets could be wanted. Its port counts as one that no expression means: it is chosen at random.
"""

Test = Callable[[End], bool | None]
"""The same for one end."""

_WORDS = re.compile(r"\(|\)|!|&&|\|\||[^\s()!&|]+")
_SAME = {"&&": "and", "||": "or", "!": "not"}
_NAMED_PORTS = {"http": 80, "https": 443}


def parse(text: str) -> Matches:
    """The test for an expression; an empty one takes everything. Raises InputError in tcpdump's words."""
    words = [_SAME.get(word, word) for word in _WORDS.findall(text)]
    if not words:
        return lambda _source, _target: True
    parser = _Parser(words, text)
    found = parser.sequence()
    if parser.words:
        raise parser.refusal()
    return found


class _Parser:
    def __init__(self, words: list[str], text: str) -> None:
        self.words = words
        self.text = text
        self.last: tuple[str, str] = ("", "")

    def refusal(self, what: str = "syntax error in filter expression") -> InputError:
        return InputError(
            f"can't parse filter expression: {what}",
            meaning=f"The expression is {self.text!r}.",
            next_step="Write 'tcp port 5000', or 'host 127.64.1.1 and dst port 80', for example.",
        )

    def take(self) -> str:
        if not self.words:
            raise self.refusal()
        return self.words.pop(0)

    def sequence(self) -> Matches:
        left = self.term()
        while self.words and self.words[0] in ("and", "or"):
            left = _joined(self.words.pop(0), left, self.term())
        return left

    def term(self) -> Matches:
        word = self.take()
        if word == "not":
            return _negated(self.term())
        if word == "(":
            inner = self.sequence()
            if self.take() != ")":
                raise self.refusal()
            return inner
        return self.primitive(word)

    def primitive(self, word: str) -> Matches:
        if word in ("tcp", "ip"):
            # `tcp port 80` is one primitive; `tcp` alone is all that there is here.
            if self.words and self.words[0] not in ("and", "or", ")"):
                return self.primitive(self.take())
            return lambda _source, _target: True
        side = ""
        if word in ("src", "dst"):
            side, word = word, self.take()
        kind, value = (word, self.take()) if word in ("port", "host", "portrange") else ("", word)
        if not kind:  # as in 'port 80 or 8080': the kind is that of the one before
            side, kind = self.last if self.last[1] else (side, "")
            if not kind and _is_address(value):
                kind = "host"
        self.last = (side, kind)
        return _test(side, self.one_end(kind, value))

    def one_end(self, kind: str, value: str) -> Test:
        if kind == "host" and _is_address(value):
            return lambda end: None if end is None else end[0] == value
        if kind == "port":
            number = self.port(value)
            return lambda end: end is not None and end[1] == number
        if kind == "portrange" and value.count("-") == 1:
            first, last = (self.port(one) for one in value.split("-"))
            return lambda end: end is not None and first <= end[1] <= last
        if kind == "host":
            raise self.refusal(f"unknown host '{value}'")
        raise self.refusal()

    def port(self, value: str) -> int:
        number = _NAMED_PORTS.get(value, int(value) if re.fullmatch(r"[0-9]{1,5}", value) else -1)
        if not 0 <= number <= 65535:
            raise self.refusal(f"illegal port '{value}'")
        return number


def _is_address(value: str) -> bool:
    try:
        IPv4Address(value)
        return True
    except AddressValueError:
        return False


def _negated(inner: Matches) -> Matches:
    def matches(source: End, target: End) -> bool | None:
        found = inner(source, target)
        return None if found is None else not found

    return matches


def _joined(word: str, left: Matches, right: Matches) -> Matches:
    decisive = word == "or"

    def matches(source: End, target: End) -> bool | None:
        first = left(source, target)
        if first is decisive:
            return first
        second = right(source, target)
        return second if second is decisive or first is not None else None

    return matches


def _test(side: str, wanted: Test) -> Matches:
    if side == "src":
        return lambda source, _target: wanted(source)
    if side == "dst":
        return lambda _source, target: wanted(target)
    return _joined("or", lambda source, _target: wanted(source), lambda _source, target: wanted(target))
