"""How a program in a container ended, from the status that the kubelet sends."""

from __future__ import annotations

import json

import pytest

from labkit.cluster.execute import PROGRAM_NOT_FOUND, ending
from labkit.errors import ClusterError, InputError


def test_success_is_exit_code_zero() -> None:
    assert ending(b'{"status": "Success"}', ["true"], "p") == (0, "")


def test_a_failing_program_is_a_result_with_its_code() -> None:
    status = {
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "56"}]},
    }
    assert ending(json.dumps(status).encode(), ["curl"], "p") == (56, "")


def test_a_container_that_is_not_there_is_an_error() -> None:
    status = {"status": "Failure", "message": 'container "x" not found in pod "p"'}
    with pytest.raises(InputError, match="not found"):
        ending(json.dumps(status).encode(), ["curl"], "p")


@pytest.mark.parametrize("status", [b"", b"nonsense"])
def test_a_status_that_says_nothing_is_an_error(status: bytes) -> None:
    with pytest.raises(ClusterError, match="no exit code"):
        ending(status, ["curl"], "p")


def test_a_program_that_is_not_there_ends_as_in_a_shell() -> None:
    status = {"status": "Failure", "message": 'exec: "curl": executable file not found in $PATH: unknown'}
    code, words = ending(json.dumps(status).encode(), ["curl"], "p")
    assert code == PROGRAM_NOT_FOUND and "executable file not found" in words
