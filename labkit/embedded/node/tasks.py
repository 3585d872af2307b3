"""Ending tasks for certain.

A cancellation is a request, and code that waits may lose it. `asyncio.wait_for` of Python 3.11 does: when what it
waits for is done at the same moment, it returns the result instead of raising CancelledError
(https://github.com/python/cpython/issues/86296), and the task goes on for ever with somebody waiting for its end.
So the node uses `asyncio.timeout`, and whoever waits for a cancelled task asks again until it has ended.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger(__name__)

PATIENCE = 0.5
"""Seconds until a task that goes on is cancelled again. One that tidies up needs a few milliseconds."""


async def end_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks and wait until all have ended; what failed is logged."""
    pending = {task for task in tasks if task is not None}
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=PATIENCE)
        for task in done:
            if not task.cancelled() and (error := task.exception()):
                log.error("%s failed", task.get_name(), exc_info=error)
