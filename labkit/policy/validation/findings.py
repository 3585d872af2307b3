"""What a validation finds, and how its parts are put together.

A check yields one string for each error, and a Remark for each warning, in the order in which Istio lists them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
Findings = Iterator[str]
Check = Callable[[Object], Findings]


@dataclass(frozen=True)
class Validation:
    """Errors refuse an object; warnings let it pass and are shown."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        return not self.errors


class Remark(str):
    """A finding that is a warning."""

    __slots__ = ()


def judge(findings: Iterable[str]) -> Validation:
    """Errors apart from warnings."""
    found = list(findings)
    return Validation(
        tuple(str(one) for one in found if not isinstance(one, Remark)),
        tuple(str(one) for one in found if isinstance(one, Remark)),
    )


def errors_of(findings: Iterable[str]) -> Findings:
    """Without the warnings. Istio loses those of some nested parts, and so do we."""
    return (one for one in findings if not isinstance(one, Remark))


def quoted(text: object) -> str:
    """As Go prints %q."""
    return json.dumps(str(text), ensure_ascii=False)


def number(value: Any) -> str:
    """A fraction as Go prints %v."""
    return repr(float(value)).removesuffix(".0")


def present(parent: Object, name: str) -> bool:
    """Whether a block is written, be it empty."""
    return parent.get(name) is not None


def block(parent: Object | None, name: str) -> Object:
    """A nested block, empty where it is not written."""
    found = (parent or {}).get(name)
    return found if isinstance(found, Mapping) else {}


def items(parent: Object | None, name: str) -> list[Any]:
    """A list, empty where it is not written."""
    return list((parent or {}).get(name) or ())
