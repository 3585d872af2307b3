"""How small results show themselves: as lines in a terminal, as a small table in a notebook.

Standard library alone; beneath all rooms, so that a certificate and a mesh status look alike. Colours are inherited,
which makes both readable in light and dark themes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Rows = Sequence[tuple[str, str]]


def as_lines(rows: Rows) -> str:
    """One `name  value` a line, with the values below each other."""
    width = max((len(name) for name, _ in rows), default=0) + 1
    return "\n".join(f"{name:{width}} {value}" for name, value in rows)


def as_table(rows: Rows) -> str:
    """The same as HTML."""
    cell = "text-align:left;padding:1px 12px 1px 0;color:inherit;word-break:break-word"
    body = "".join(
        f'<tr style="background:transparent"><th style="{cell}">{escape(name)}</th>'
        f'<td style="{cell}">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table style="border-collapse:collapse;color:inherit">{body}</table>'
