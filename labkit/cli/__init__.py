"""The command line: the same acts as in a notebook, from a shell. Importing a family of commands adds it to `main`."""

from labkit.cli import commands, declared, observed, wire, words
from labkit.cli.shared import main

__all__ = ["commands", "declared", "main", "observed", "wire", "words"]
