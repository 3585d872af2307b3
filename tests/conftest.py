"""What all tests share: a state directory of their own, and a watch over leftovers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]

# Clusters of tests never meet those of the person who runs the tests. Set before anything reads it; short,
# because paths of Unix sockets are.
_HOME = Path(tempfile.mkdtemp(prefix="labkit-test-"))
os.environ["LABKIT_HOME"] = str(_HOME)


# The same examples everywhere, however busy the machine is. To look for new ones: pytest --hypothesis-profile=search
_UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", _UNHURRIED)
settings.register_profile("same", _UNHURRIED, derandomize=True)
settings.load_profile("same")

# Directories of tests that run real proxies against the clock of a machine that others use, too.
_REAL_PROCESSES = ("tests/contract", "tests/embedded", "tests/notebooks", "tests/browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests get half a minute each, which ends one that hangs; the slow ones come last.

    A test with real processes has a second try. The first is not hidden: see pytest_terminal_summary.
    """
    for item in items:
        if any(part in str(item.path) for part in _REAL_PROCESSES):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if "tests/unit" in str(item.path) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(60 if "imports" in item.name else 30))
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show in full why a test failed at its first try: it is a fault to mend, in the test or in the product."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"FAILED AT THE FIRST TRY: {report.nodeid}", sep="!")
        terminalreporter.line(report.longreprtext)


def processes_of_tests() -> list[psutil.Process]:
    """Processes whose command line or environment names the tests' state directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and (
                any(str(_HOME) in part for part in process.cmdline())
                or process.environ().get("LABKIT_HOME") == str(_HOME)
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """After the last test no process of a cluster runs; one that does is named, and ended."""
    yield
    left = [p for p in processes_of_tests() if p.status() != psutil.STATUS_ZOMBIE]
    names = [" ".join(p.cmdline()[:6]) for p in left]
    for process in left:
        process.kill()
    shutil.rmtree(_HOME, ignore_errors=True)
    assert not names, f"processes were left behind: {names}"
