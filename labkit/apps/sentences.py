"""Three small services that make a sentence: `sentences` asks `name` and `age` and answers "Grace is 37 years old.".

`name` exists in two versions, told apart by $VERSION: v1 knows first names, v2 whole names, so that one can see in
an answer which of them was asked. Every answer is one line of text, which reads well in a loop of curl.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import ClassVar

from labkit.apps.calling import call
from labkit.apps.webapp import WebHandler, serve

PEOPLE = (
    ("Grace", "Hopper"),
    ("Ada", "Lovelace"),
    ("Alan", "Turing"),
    ("Radia", "Perlman"),
    ("Edsger", "Dijkstra"),
    ("Barbara", "Liskov"),
    ("Vint", "Cerf"),
)
AGES = (37, 36, 41, 73, 72, 84, 28)


def healthz(_: WebHandler) -> tuple[str, bytes]:
    """Ready as soon as it listens, whatever becomes of the services that it calls."""
    return "text/plain", b"ok\n"


class Name(WebHandler):
    """GET / -> a name; a whole one in version v2."""

    application = "name"
    people: ClassVar[Iterator[tuple[str, str]]] = itertools.cycle(PEOPLE)

    def name(self) -> tuple[str, bytes]:
        first, last = next(self.people)
        text = f"{first} {last}" if os.environ.get("VERSION") == "v2" else first
        return "text/plain; charset=utf-8", f"{text}\n".encode()

    routes = {("GET", "/"): name, ("GET", "/healthz"): healthz}  # noqa: RUF012


class Age(WebHandler):
    """GET / -> a number of years."""

    application = "age"
    ages: ClassVar[Iterator[int]] = itertools.cycle(AGES)

    def age(self) -> tuple[str, bytes]:
        return "text/plain; charset=utf-8", f"{next(self.ages)}\n".encode()

    routes = {("GET", "/"): age, ("GET", "/healthz"): healthz}  # noqa: RUF012


class Sentences(WebHandler):
    """GET / -> a sentence of $NAME_URL (http://name:5000/) and $AGE_URL (http://age:5000/)."""

    application = "sentences"

    def sentence(self) -> tuple[str, bytes]:
        name = call(os.environ.get("NAME_URL", "http://name:5000/"), "name", self.headers).decode().strip()
        age = call(os.environ.get("AGE_URL", "http://age:5000/"), "age", self.headers).decode().strip()
        return "text/plain; charset=utf-8", f"{name} is {age} years old.\n".encode()

    routes = {("GET", "/"): sentence, ("GET", "/healthz"): healthz}  # noqa: RUF012


if __name__ == "__main__":
    serve(Sentences, default_port=5000)
