"""The command line: the same acts as in a notebook, from a shell. Importing a family of commands adds it to `main`."""

from labkit.cli import analysis, certificates, commands, course, declared, installing, live, observed, wire, words
from labkit.cli.shared import main

__all__ = [
    "analysis",
    "certificates",
    "commands",
    "course",
    "declared",
    "installing",
    "live",
    "main",
    "observed",
    "wire",
    "words",
]
