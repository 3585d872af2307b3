"""Small pieces of HTML that look right in JupyterLab's light and dark themes: they inherit ink and paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

CODE = "font-family:var(--jp-code-font-family,monospace);font-size:90%;background:none;color:inherit;padding:0"


def card(title: str, lines: Iterable[str] = (), commands: Iterable[str] = (), *, mark: str = "", colour: str) -> str:
    """A title with a coloured bar at its left, some lines, and the commands that do the same."""
    body = "".join(f'<div style="opacity:.85">{escape(line)}</div>' for line in lines if line)
    shown = "".join(f'<div style="opacity:.8"><code style="{CODE}">$ {escape(line)}</code></div>' for line in commands)
    sign = f'<b style="color:{colour}">{escape(mark)}</b> ' if mark else ""
    return (
        f'<div style="border-left:4px solid {colour};padding:2px 10px;margin:4px 0;color:inherit;line-height:1.5">'
        f"<div>{sign}<b>{escape(title)}</b></div>{body}{shown}</div>"
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A plain table, left-aligned as kubectl prints it."""
    cell = "text-align:left;padding:3px 14px 3px 0;color:inherit;vertical-align:top"
    head = "".join(f'<th style="{cell};opacity:.7;font-weight:600">{escape(str(name))}</th>' for name in columns)
    body = "".join(
        "<tr style='background:transparent'>"
        + "".join(f'<td style="{cell};white-space:pre-wrap">{escape(str(value))}</td>' for value in row)
        + "</tr>"
        for row in rows
    )
    return (
        '<table style="border-collapse:collapse;color:inherit;margin:4px 0">'
        f"<thead><tr style='background:transparent'>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
