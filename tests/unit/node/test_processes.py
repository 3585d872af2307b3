"""Real processes, small ones. Whatever a test starts has ended when it is over."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from labkit.embedded.node import processes
from labkit.embedded.node.console import Input
from labkit.embedded.node.processes import (
    Exit,
    Identity,
    Process,
    container_mark,
    end_recorded,
    kill_session,
    marked_processes,
    pod_mark,
    session_members,
)
from labkit.embedded.node.records import ContainerRecord, PodRecord, load_records
from labkit.embedded.paths import ClusterPaths

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    # Other tests of the same run may have children of their own, such as multiprocessing's resource tracker.
    before = {child.pid for child in psutil.Process().children()}
    yield
    assert not {child.pid for child in psutil.Process().children()} - before


def start(*argv: str, tmp_path: Path, env: dict[str, str] | None = None) -> Process:
    return Process.start(argv, env=env or ENV, cwd=tmp_path)


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("exit 0", Exit(0)),
        ("exit 56", Exit(56)),
        ("kill -TERM $$", Exit(143, signal.SIGTERM)),
        ("kill -KILL $$", Exit(137, signal.SIGKILL)),
    ],
)
async def test_the_end_of_a_process_is_told(tmp_path: Path, script: str, wanted: Exit):
    process = start("sh", "-c", script, tmp_path=tmp_path)
    assert await process.wait() == wanted
    assert not process.running


async def test_a_program_that_does_not_exist_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        start("/no/such/program", tmp_path=tmp_path)


async def test_the_rest_of_a_session_ends_with_its_leader(tmp_path: Path):
    process = start("sh", "-c", "sleep 100 & sleep 100 & exit 3", tmp_path=tmp_path)
    assert (await process.wait()).code == 3
    deadline = time.monotonic() + 5
    while session_members(process.identity.pid):  # killed, but on a busy machine not gone yet
        assert time.monotonic() < deadline, "the rest of the session runs on"
        await asyncio.sleep(0.01)


async def test_terminate_asks_first(tmp_path: Path):
    process = start("sleep", "100", tmp_path=tmp_path)
    assert (await process.terminate(5)).signal == signal.SIGTERM


async def test_terminate_kills_what_does_not_listen(tmp_path: Path):
    process = start("sh", "-c", "trap '' TERM; echo > set; while :; do sleep 0.05; done", tmp_path=tmp_path)
    while not (tmp_path / "set").exists():
        await asyncio.sleep(0.01)
    assert (await process.terminate(0.1)).signal == signal.SIGKILL
    assert session_members(process.identity.pid) == []


async def test_a_released_process_runs_on_and_can_be_adopted(tmp_path: Path):
    first = start("sleep", "100", tmp_path=tmp_path)
    first.release()
    assert first.identity.alive
    second = Process.adopt(first.identity)
    assert second is not None
    second.kill()
    assert (await second.wait()).signal == signal.SIGKILL  # our own child still, so its end is known


async def test_the_exit_code_of_somebody_elses_child_is_unknown(tmp_path: Path):
    # The shell starts it in another session and ends, so that it is not our child.
    shell = start("sh", "-c", "setsid sh -c 'echo $$ > pid; exec sleep 100' & wait", tmp_path=tmp_path)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        await asyncio.sleep(0.01)
    identity = Identity.of(int((tmp_path / "pid").read_text()))
    assert identity
    adopted = Process.adopt(identity)
    assert adopted
    adopted.kill()
    assert await adopted.wait() == Exit(None)
    await shell.wait()


async def test_a_process_that_ended_cannot_be_adopted(tmp_path: Path):
    process = start("true", tmp_path=tmp_path)
    await process.wait()
    assert Process.adopt(process.identity) is None


def test_a_pid_with_another_start_time_is_somebody_else():
    me = Identity.of(os.getpid())
    assert me and me.alive
    other = Identity(me.pid, me.start_ticks + 1, me.boot)
    assert not other.alive and other.open() is None
    assert other.signal(signal.SIGKILL) is False  # or this test would have ended here


def test_a_process_of_another_boot_is_gone():
    me = Identity.of(os.getpid())
    assert me and not Identity(me.pid, me.start_ticks, "another boot").alive


def test_a_zombie_does_not_live():
    child = subprocess.Popen(["true"])
    identity = Identity.of(child.pid)
    assert identity
    while identity.alive:
        pass
    child.wait()


async def test_processes_are_found_by_their_mark_and_by_no_other(tmp_path: Path):
    mark = pod_mark(tmp_path, "uid-1")
    process = start("sleep", "100", tmp_path=tmp_path, env={**ENV, "POD_ROOT": f"{tmp_path}/pods/uid-1/root"})
    assert [p.pid for p in marked_processes(mark)] == [process.identity.pid]
    assert marked_processes(pod_mark(tmp_path, "uid-11")) == []
    process.kill()
    await process.wait()
    assert marked_processes(mark) == []


async def test_the_processes_of_a_container_are_found_among_those_of_its_pod(tmp_path: Path):
    pod = {**ENV, "POD_ROOT": f"{tmp_path}/pods/uid-1/root"}
    web, other = (
        start("sleep", "100", tmp_path=tmp_path, env={**pod, "POD_CONTAINER": name}) for name in ("web", "web-2")
    )
    mark = pod_mark(tmp_path, "uid-1")
    assert [p.pid for p in marked_processes(mark, container_mark("web"))] == [web.identity.pid]
    assert marked_processes(pod_mark(tmp_path, "uid-2"), container_mark("web")) == []
    for process in (web, other):
        process.kill()
        await process.wait()


async def test_what_cannot_be_watched_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    env = {**ENV, "POD_ROOT": f"{tmp_path}/pods/uid-3/root"}
    monkeypatch.setattr(os, "pidfd_open", full)
    with pytest.raises(OSError, match="Too many open files"):
        start("sleep", "100", tmp_path=tmp_path, env=env)
    monkeypatch.undo()
    assert marked_processes(pod_mark(tmp_path, "uid-3")) == []


async def test_the_end_is_told_even_if_the_rest_of_the_session_cannot_be_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(_: Identity) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(processes, "kill_session", full)
    process = start("sh", "-c", "exit 3", tmp_path=tmp_path)
    async with asyncio.timeout(2):
        assert await process.wait() == Exit(3)


async def test_a_program_may_be_named_by_any_bytes(tmp_path: Path):
    # What /proc/<pid>/stat shows in parentheses is not always text.
    program = tmp_path / os.fsdecode(b"\xff) Z 1")
    program.symlink_to("/bin/sleep")
    process = start(str(program), "100", tmp_path=tmp_path)
    assert process.identity.alive
    process.kill()
    assert (await process.wait()).signal == signal.SIGKILL


async def test_a_closed_input_leaves_its_number_to_others(tmp_path: Path):
    theirs, ours = os.pipe()
    pipe = Input(ours)
    writing = asyncio.create_task(pipe.write(b"x" * 1_000_000))  # nobody reads: it waits until it can write
    await asyncio.sleep(0.01)
    pipe.close()
    # The next descriptors get the freed number; the loop must take this one for a new one.
    process = start("sh", "-c", "exit 5", tmp_path=tmp_path)
    async with asyncio.timeout(2):
        assert await process.wait() == Exit(5)
        await writing
    os.close(theirs)


async def test_killing_a_session_leaves_other_sessions_alone(tmp_path: Path):
    one, two = (start("sh", "-c", "sleep 100 & wait", tmp_path=tmp_path) for _ in range(2))
    kill_session(one.identity)
    await one.wait()
    assert two.identity.alive
    # Its number, but not its start time: the number was given to somebody else.
    assert kill_session(replace(two.identity, start_ticks=1)) == 0
    assert two.identity.alive
    two.kill()
    await two.wait()


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterPaths:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    return ClusterPaths("unit")


def write_record(paths: ClusterPaths, identity: Identity) -> Path:
    directory = paths.node_dir / "pods" / "uid-1"
    directory.mkdir(parents=True)
    record = PodRecord("uid-1", "demo", "chat", 7)
    record.containers["main"] = ContainerRecord(attempt=1, process=identity.to_json())
    record.save(directory)
    return directory


def test_recorded_processes_are_ended_with_their_session(paths: ClusterPaths, tmp_path: Path):
    script = "import os, time; os.fork() or os.fork(); os.write(1, b'.'); time.sleep(100)"
    child = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    assert child.stdout and child.stdout.read(3) == b"..."
    identity = Identity.of(child.pid)
    assert identity
    write_record(paths, identity)
    ended = end_recorded(paths)
    assert {e.owner for e in ended} == {"demo/chat/main"} and len(ended) == 3
    assert session_members(child.pid) == []
    assert end_recorded(paths) == []
    child.returncode = 0  # reaped above
    child.stdout.close()


def test_nothing_recorded_means_nothing_ended(paths: ClusterPaths):
    assert end_recorded(paths) == []


def test_records_are_read_back_as_they_were_written(paths: ClusterPaths):
    me = Identity.of(os.getpid())
    assert me
    write_record(paths, me)
    [record] = load_records(paths.node_dir / "pods").values()
    assert (record.row, record.containers["main"].identity) == (7, me)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"uid": "x"}'])
def test_an_unreadable_record_is_removed(paths: ClusterPaths, text: str):
    directory = paths.node_dir / "pods" / "uid-2"
    directory.mkdir(parents=True)
    (directory / "pod.json").write_text(text)
    assert load_records(paths.node_dir / "pods") == {}
    assert not directory.exists()
    assert end_recorded(paths) == []
