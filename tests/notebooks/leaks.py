"""What an executed notebook must never hold: private keys, tokens, and secrets that are known by their text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

PATTERNS = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a private key in base64": re.compile(r"LS0tLS1CRUdJTiB(?:QUklWQVRF|FQyBQUklWQVRF|SU0EgUFJJVkFUR)"),
    "a token (JWT)": re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
}


def leaks_in(text: str, known: Iterable[str] = ()) -> list[str]:
    """What of the sort stands in this text; `known` are secrets by their very words."""
    found = [what for what, pattern in PATTERNS.items() if pattern.search(text)]
    return [*found, *("a secret that is known" for secret in known if secret and secret in text)]


def leaks_below(directory: Path, known: Iterable[str] = ()) -> dict[str, list[str]]:
    """The same for each file of a directory with executed notebooks."""
    known = list(known)
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(directory.iterdir()) if path.is_file()}
    return {name: leaks for name, text in texts.items() if (leaks := leaks_in(text, known))}
