"""A terminal as a person has it, and the commands that are typed into it. Which kubectl answers is the caller's."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """A command and what it prints. `until` repeats it as a person would who waits for pods or for a policy."""

    command: str
    says: tuple[str, ...] = ()
    code: int = 0
    until: bool = False
    tty: bool = False
    silent_about: tuple[str, ...] = ()


def do(command: str, *says: str, **more: Any) -> Step:
    return Step(command, says, **more)


def kubectls() -> list[str]:
    """The kubectl on the PATH, or those that the variable KUBECTLS names: KUBECTLS=/path/one:/path/two pytest ..."""
    named = [path for path in os.environ.get("KUBECTLS", "").split(":") if path]
    found = shutil.which("kubectl")
    return named or ([found] if found else [])


class Terminal:
    """A shell in a directory of its own. Variables that a command sets are there for the next one."""

    def __init__(self, directory: Path, kubectl: Path, kubeconfig: Path) -> None:
        programs = directory / ".bin"
        programs.mkdir()
        # A wrapper, not a link: some builds of kubectl choose another version by the name they are called with.
        (programs / "kubectl").write_text(f'#!/bin/sh\nexec {kubectl} --cache-dir "{directory}/.cache" "$@"\n')
        (programs / "kubectl").chmod(0o755)
        self.directory = directory
        self.environment = os.environ | {"KUBECONFIG": str(kubeconfig), "PATH": f"{programs}:{os.environ['PATH']}"}

    def run(self, steps: list[Step]) -> None:
        for step in steps:
            self.take(step)

    def take(self, step: Step, seconds: float = 40) -> str:
        end = time.monotonic() + seconds
        while True:
            code, said = self.in_terminal(step.command) if step.tty else self.in_pipe(step.command)
            missing = [text for text in step.says if not re.search(text, said)]
            unwanted = [text for text in step.silent_about if re.search(text, said)]
            if code == step.code and not missing and not unwanted:
                return said
            if not step.until or time.monotonic() > end:
                raise AssertionError(
                    f"$ {step.command}\n{said}\n[exit code {code}, expected {step.code}; "
                    f"not printed: {missing}; printed but not expected: {unwanted}]"
                )
            time.sleep(0.1)

    def _script(self, command: str) -> list[str]:
        return [
            "bash",
            "-c",
            f"set -a; [ -f .variables ] && . ./.variables; {command}\ncode=$?; declare -px > .variables; exit $code",
        ]

    def in_pipe(self, command: str) -> tuple[int, str]:
        done = subprocess.run(
            self._script(command),
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout

    def in_terminal(self, command: str, typed: list[tuple[str, str]] | None = None) -> tuple[int, str]:
        """In a pseudo-terminal; `typed` are texts to wait for and what to type then."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self._script(command),
            cwd=self.directory,
            env=self.environment | {"TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        said, read_up_to, waiting, end = "", 0, list(typed or []), time.monotonic() + 60
        try:
            while time.monotonic() < end:
                readable, _, _ = select.select([ours], [], [], 1)
                if readable:
                    try:
                        block = os.read(ours, 65536)
                    except OSError:  # the last program closed its end
                        break
                    if not block:
                        break
                    said += block.decode(errors="replace")
                if waiting and (found := re.search(waiting[0][0], said[read_up_to:])):
                    read_up_to += found.end()
                    os.write(ours, waiting.pop(0)[1].encode())
            assert not waiting, f"$ {command}\n{said}\n[waited in vain for {waiting[0][0]!r}]"
            return process.wait(10), said.replace("\r\n", "\n")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            os.close(ours)
