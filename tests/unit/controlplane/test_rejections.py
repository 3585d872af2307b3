"""Who is named when a proxy rejects an update, and for how long."""

from __future__ import annotations

import pytest

from labkit.embedded.controlplane.delivery import Document
from labkit.embedded.controlplane.rejections import MOST_NAMED, Standing, message, place_in
from labkit.embedded.controlplane.translation.model import ObjectReference

PLACE = (("shop", "server.a-1"), "listeners")


def ref(name: str) -> ObjectReference:
    return ObjectReference("EnvoyFilter", "shop", name)


A, B, C = map(ref, "abc")

# first rejection: objects; then: objects and words of the next one; who is named
ROWS = [
    ("the next change is not to blame for the old reason", (A,), (B,), "old", (A,)),
    ("nor is the same object named twice", (A,), (A,), "old", (A,)),
    ("with new words either may be meant", (A,), (B,), "new", (A, B)),
    ("two changed at once", (A, B), (C,), "old", (A, B)),
    ("what an istiod before this one knew is unknown", (), (B,), "new", (B,)),
]


@pytest.mark.parametrize(("first", "then", "words", "named"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_who_is_named(
    first: tuple[ObjectReference, ...],
    then: tuple[ObjectReference, ...],
    words: str,
    named: tuple[ObjectReference, ...],
) -> None:
    standing = Standing(PLACE, first, first, "old").followed_by(Document("{}", then), words)
    assert standing.causes == named
    assert standing.words == words


def test_a_suspect_of_old_is_named_when_the_first_reason_is_gone() -> None:
    """A was bad, then B; A is mended, and now Envoy names B's fault."""
    standing = Standing(PLACE, (A,), (A,), "fault of a")
    standing = standing.followed_by(Document("{}", (B,)), "fault of a")
    standing = standing.followed_by(Document("{}", (A,)), "fault of b")
    assert set(standing.causes) == {A, B}


def test_the_message_names_the_others_and_can_be_read_back() -> None:
    one = message(Standing(PLACE, (A,), (A,), "no such filter"), A)
    assert one == "the proxy of server.a-1.shop rejects the listeners that follow from this: no such filter"
    assert place_in(one) == PLACE
    both = message(Standing(PLACE, (A, B), (A, B), "x"), A)
    assert "follow from this or EnvoyFilter shop/b: x" in both
    many = tuple(map(ref, "abcdefgh"))
    assert f"{len(many) - 1 - MOST_NAMED} more: x" in message(Standing(PLACE, many, many, "x"), A)
    assert place_in("something that somebody else wrote") is None
