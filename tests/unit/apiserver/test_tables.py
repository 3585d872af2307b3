"""The cells people read: STATUS of pods above all, and ages."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.embedded.apiserver.tables import human_duration, json_path, pod_status


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (135, "2m15s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (51 * 3600, "2d3h"),
        (400 * 86400, "400d"),
        (800 * 86400, "2y70d"),
    ],
)
def test_ages_are_as_coarse_as_kubectls(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


def _pod(
    *states: dict[str, Any], phase: str = "Running", inits: tuple[dict[str, Any], ...] = (), **metadata: Any
) -> Any:
    def status(i: int, state: dict[str, Any]) -> dict[str, Any]:
        return {"name": f"c{i}", "state": state, "ready": "running" in state, "restartCount": 1}

    return {
        "metadata": {"name": "p", **metadata},
        "spec": {
            "containers": [{"name": f"c{i}"} for i in range(len(states))],
            "initContainers": [{"name": f"c{i}"} for i in range(len(inits))],
        },
        "status": {
            "phase": phase,
            "containerStatuses": [status(i, state) for i, state in enumerate(states)],
            "initContainerStatuses": [status(i, state) for i, state in enumerate(inits)],
        },
    }


RUNNING: dict[str, Any] = {"running": {}}
DONE: dict[str, Any] = {"terminated": {"exitCode": 0, "reason": "Completed"}}


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (_pod(RUNNING, RUNNING), ("Running", 2, 2)),
        (_pod(RUNNING, {"waiting": {"reason": "CrashLoopBackOff"}}), ("CrashLoopBackOff", 1, 2)),
        (_pod({"waiting": {"reason": "ErrImagePull"}}, phase="Pending"), ("ErrImagePull", 0, 1)),
        (_pod(DONE, phase="Succeeded"), ("Completed", 0, 1)),
        (_pod({"terminated": {"exitCode": 2}}), ("ExitCode:2", 0, 1)),
        (_pod({"waiting": {"reason": "PodInitializing"}}, phase="Pending", inits=(RUNNING,)), ("Init:0/1", 0, 1)),
        (_pod(RUNNING, inits=(DONE,)), ("Running", 1, 1)),
        (
            _pod({"waiting": {}}, phase="Pending", inits=({"terminated": {"exitCode": 1, "reason": "Error"}},)),
            ("Init:Error", 0, 1),
        ),
        (_pod(RUNNING, deletionTimestamp="2024-01-01T00:00:00Z"), ("Terminating", 1, 1)),
    ],
    ids=["running", "crash", "image", "completed", "exit", "init", "init-done", "init-error", "terminating"],
)
def test_the_status_of_a_pod(pod: Any, expected: tuple[str, int, int]) -> None:
    assert pod_status(pod)[:3] == expected


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.a", [1]),
        (".spec.list[0].b", [2]),
        (".spec.list[*].b", [2, 3]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (r".metadata.annotations.example\.com/x", ["y"]),
        (".spec['a']", [1]),
        (".spec.nothing", []),
        ("not a path", []),
    ],
)
def test_printer_columns_find_their_value(path: str, found: list[Any]) -> None:
    obj = {
        "metadata": {"annotations": {"example.com/x": "y"}},
        "spec": {"a": 1, "list": [{"b": 2}, {"b": 3}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    assert json_path(obj, path) == found
