"""How a program in a container ended, from the status that the kubelet sends."""

from __future__ import annotations

import json

import pytest

from labkit.cluster.execute import _exit_code
from labkit.errors import ClusterError, InputError


def test_success_is_exit_code_zero() -> None:
    assert _exit_code(b'{"status": "Success"}', ["true"], "p") == 0


def test_a_failing_program_is_a_result_with_its_code() -> None:
    status = {
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "56"}]},
    }
    assert _exit_code(json.dumps(status).encode(), ["curl"], "p") == 56


def test_a_container_that_is_not_there_is_an_error() -> None:
    status = {"status": "Failure", "message": 'container "x" not found in pod "p"'}
    with pytest.raises(InputError, match="not found"):
        _exit_code(json.dumps(status).encode(), ["curl"], "p")


@pytest.mark.parametrize("status", [b"", b"nonsense"])
def test_a_status_that_says_nothing_is_an_error(status: bytes) -> None:
    with pytest.raises(ClusterError, match="no exit code"):
        _exit_code(status, ["curl"], "p")
