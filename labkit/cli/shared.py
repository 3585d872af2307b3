"""The command line: the same acts as in a notebook, from a shell.

Results go to standard output, what is happening meanwhile to standard error. Exit codes: 0 done, 1 it did not
work out (a lesson failed, the cluster refused), 2 wrong input, 3 the machine lacks something, 70 a defect of ours,
130 ended by Ctrl-C. `labkit --help` says the same.
Heavy modules are imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from labkit.cli.hints import as_commands, in_data
from labkit.errors import LabError

_CLUSTER = "labkit.cluster"

INTERRUPTED = 130
"""What shells return for a program that Ctrl-C has ended: 128 and the signal's number."""

_CHANGING = ("world", "solve", "reset", "run", "drill", "mesh", "mode", "prometheus", "up", "down", "platform")
_HALF_WAY = "What was done until then stays done; the same command again does the rest."

F = TypeVar("F", bound=Callable[..., Any])


def say(text: str) -> None:
    """Narrate on standard error."""
    click.echo(text, err=True)


def emit(value: Any, as_json: bool, text: str) -> None:
    """The result on standard output, as JSON for a script or as text for a person; hints are commands."""
    click.echo(worded(value if as_json else text, as_json))


def worded(value: Any, as_json: bool) -> str:
    """A result as text, with commands in place of the notebook's verbs."""
    if as_json:
        return json.dumps(in_data(value, _asked_cluster()), indent=2, default=str)
    return as_commands(value, _asked_cluster())


def _asked_cluster() -> str:
    context = click.get_current_context(silent=True)
    return str(context.meta.get(_CLUSTER, "embedded")) if context else "embedded"


def _remember_cluster(context: click.Context, _: click.Parameter, value: str) -> str:
    context.meta[_CLUSTER] = value  # shared by all contexts of one invocation
    return value


class LabGroup(click.Group):
    """Shows a LabError as its message and exit code; any other exception is a defect and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except LabError as error:
            say(f"labkit: {as_commands(str(error), _asked_cluster())}")
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            changing = ctx.invoked_subcommand in _CHANGING
            say(f"\nlabkit: Interrupted. {_HALF_WAY if changing else 'It was only looking: nothing was changed.'}")
            ctx.exit(INTERRUPTED)


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
name_option = click.option("--name", default="embedded", show_default=True, help="Name of the embedded cluster.")
cluster_option = click.option(
    "--cluster",
    default="embedded",
    show_default=True,
    callback=_remember_cluster,
    help="'embedded', 'embedded:NAME', or a context of your kubeconfig.",
)


_EXIT_CODES = """\b
Results go to standard output, all else to standard error. Exit codes:
  0    done, or as wished
  1    it did not work out, or something was found: a step failed, a client would break, a proxy is behind
  2    wrong input; nothing was changed
  3    the machine lacks something: 'labkit doctor' says what
  70   a defect of labkit
  130  ended by Ctrl-C
"""


@click.group(cls=LabGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_CODES)
@click.version_option(package_name="labkit")
def main() -> None:
    """The mTLS Lab: learn Istio mutual TLS on real proxies."""
