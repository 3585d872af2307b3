"""The commands of platforms: filled in and quoted, refused in words, run one by one."""

from __future__ import annotations

import json
import shlex

import pytest
from click.testing import CliRunner

from labkit.cli import main
from labkit.errors import InputError
from labkit.installers.recipes import RECIPES, TOOLS, load_balancer_annotations, recipe
from labkit.installers.tools import Machine, Ran, outcome, run_line
from labkit.lab.platforms import show_platform

ARN = "arn:aws:acm:us-east-1:111122223333:certificate/1"


def machine(*tools: str, **codes: int) -> tuple[Machine, list[str]]:
    """A machine that has these tools; `codes` says how lines that begin with a tool's login check, or else, end."""
    ran: list[str] = []

    def run(line: str, limit: float) -> Ran:
        ran.append(line)
        return Ran(codes.get("login" if line in {tool.logged_in for tool in TOOLS.values()} else "line", 0), "said")

    return Machine(lambda name: f"/bin/{name}" if name in tools else None, run), ran


@pytest.mark.parametrize("name", list(RECIPES))
class TestEveryRecipe:
    def test_its_lines_are_one_command_each_of_a_tool_that_is_known(self, name: str) -> None:
        for command in recipe(name).commands:
            assert command.tool in TOOLS
            assert shlex.split(command.line) and "\n" not in command.line
            assert command.what

    def test_each_of_its_settings_reaches_a_line_and_cannot_leave_it(self, name: str) -> None:
        for setting in RECIPES[name].settings:
            nasty = "a'; touch b #"
            lines = [one.line for one in recipe(name, **{setting: nasty}).commands]
            assert any(nasty in token for line in lines for token in shlex.split(line)), setting

    def test_without_a_value_a_setting_is_refused(self, name: str) -> None:
        for setting in RECIPES[name].settings:
            with pytest.raises(InputError, match="is empty"):
                recipe(name, **{setting: " "})

    def test_without_its_programs_nothing_runs_and_each_is_named(self, name: str) -> None:
        bare, ran = machine()
        text = str(show_platform(name, machine=bare))
        for command in recipe(name).commands:
            assert f"{command.tool} is not on this machine" in text
            assert outcome(command, bare)[0] == "refused"
        assert ran == [] and "Nothing was run." in text


def test_names_and_settings_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="no recipe 'gke'"):
        recipe("gke")
    with pytest.raises(InputError, match="no setting 'zone'"):
        recipe("aks", zone="1")
    with pytest.raises(InputError, match="no command 9"):
        show_platform("aks", run=9, machine=machine()[0])


def test_the_add_on_is_enabled_with_the_given_names() -> None:
    first = recipe("aks", resource_group="shop", aks_cluster="mesh").commands[0]
    assert first.line == "az aks mesh enable --resource-group shop --name mesh"


def test_whoever_is_not_logged_in_is_told_how_and_nothing_else_is_run() -> None:
    logged_out, ran = machine("az", login=1)
    shown = show_platform("aks", run=1, machine=logged_out)
    assert (shown.state, shown.said) == ("refused", "nobody is logged in: az login")
    assert ran == ["az account show"]


def test_exactly_the_command_that_was_asked_for_is_run() -> None:
    ready, ran = machine("az")
    shown = show_platform("aks", run=3, machine=ready)
    assert shown.state == "done" and shown.ran
    assert ran == ["az account show", recipe("aks").commands[2].line]


def test_a_command_that_fails_says_so() -> None:
    shown = show_platform("helm", run=1, machine=machine("helm", line=1)[0])
    assert (shown.state, shown.said) == ("failed", "exit code 1: said")


def test_what_an_earlier_command_says_has_to_be_filled_in_first() -> None:
    ready, ran = machine("aws", "kubectl")
    shown = show_platform("eks", run=3, machine=ready)
    assert shown.state == "refused" and "authority_arn" in shown.said and ran == []
    assert show_platform("eks", run=3, machine=ready, authority_arn=ARN).state == "done"


def test_the_load_balancers_annotations_arrive_as_json() -> None:
    last = recipe("eks", certificate_arn=ARN).commands[-1]
    patch = json.loads(shlex.split(last.line)[-1])
    assert patch["metadata"]["annotations"] == load_balancer_annotations(ARN)


def test_lines_are_really_run() -> None:
    assert run_line("echo one && exit 3", 5) == Ran(3, "one")
    assert run_line("exec sleep 5", 0.1).code == 124


def test_a_shell_prints_them_and_is_refused_by_its_exit_code() -> None:
    done = CliRunner().invoke(main, ["platform", "aks", "--set", "resource_group=shop", "--json"])
    assert done.exit_code == 0 and "--resource-group shop" in json.loads(done.stdout)["commands"][0]["line"]
    assert CliRunner().invoke(main, ["platform", "eks", "--run", "3"]).exit_code == 1
