"""Tasks end when they are told to, even if they lose the first request."""

from __future__ import annotations

import asyncio
import logging

import pytest

from labkit.embedded.node import tasks
from labkit.embedded.node.tasks import end_tasks


async def test_a_task_that_waits_is_ended():
    task = asyncio.create_task(asyncio.sleep(1000))
    await end_tasks(task, None)
    assert task.cancelled()


async def test_a_task_that_loses_a_cancellation_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tasks, "PATIENCE", 0.01)
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while lost < 2:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                lost += 1
        await asyncio.sleep(1000)

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end_tasks(task)
    assert task.cancelled() and lost == 2


async def test_a_task_that_failed_is_told_of(caplog: pytest.LogCaptureFixture):
    async def failing() -> None:
        raise RuntimeError("no good")

    task = asyncio.create_task(failing(), name="the-task")
    await asyncio.sleep(0)
    with caplog.at_level(logging.ERROR):
        await end_tasks(task)
    assert "the-task failed" in caplog.text and "no good" in caplog.text
