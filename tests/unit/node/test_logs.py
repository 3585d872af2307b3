from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from labkit.embedded.node import logs
from labkit.embedded.node.logs import BLOCK, CUT, LogFile, LogOptions, LogWatcher, read_log, tail_offset


def over() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def read(file: LogFile, options: LogOptions = LogOptions(), ended: asyncio.Event | None = None) -> bytes:  # noqa: B008
    return b"".join([piece async for piece in read_log(file, options, ended or over())])


def log_of(tmp_path: Path, content: bytes) -> LogFile:
    path = tmp_path / "0.log"
    path.write_bytes(content)
    return LogFile(path)


@pytest.mark.parametrize(
    ("content", "lines", "tail"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\n", 9, b"a\nb\n"),
        (b"a\nb\n", 0, b""),
        (b"", 3, b""),
        (b"x" * (2 * BLOCK) + b"\nlast\n", 1, b"last\n"),
        ((b"y" * 99 + b"\n") * 2000, 1000, (b"y" * 99 + b"\n") * 1000),
    ],
    ids=["two-of-three", "an-unfinished-line", "more-than-there-are", "none", "empty", "long-line", "many-blocks"],
)
def test_the_last_lines(tmp_path: Path, content: bytes, lines: int, tail: bytes):
    file = log_of(tmp_path, content)
    assert content[tail_offset(file.path, lines) :] == tail


async def test_the_whole_log_and_its_first_bytes(tmp_path: Path):
    file = log_of(tmp_path, b"a\nb\n")
    assert await read(file) == b"a\nb\n"
    assert await read(file, LogOptions(limit_bytes=3)) == b"a\nb"


async def test_a_line_has_the_time_at_which_it_was_seen(tmp_path: Path):
    file = log_of(tmp_path, b"old\nnew\n")
    file.offsets, file.times = [4, 8], [1000.0, 2000.5]
    text = await read(file, LogOptions(timestamps=True))
    assert text == b"1970-01-01T00:16:40.000000Z old\n1970-01-01T00:33:20.500000Z new\n"
    assert await read(file, LogOptions(since=1500.0)) == b"new\n"
    assert await read(file, LogOptions(since=3000.0)) == b""


async def test_an_unfinished_last_line_is_shown_too(tmp_path: Path):
    file = log_of(tmp_path, b"a\nb")
    file.offsets, file.times = [3], [0.0]
    assert (await read(file, LogOptions(timestamps=True))).endswith(b" b\n")


async def test_following_ends_when_the_container_has_ended_and_all_is_read(tmp_path: Path):
    watcher = LogWatcher()
    path = tmp_path / "0.log"
    path.write_bytes(b"1\n")
    file, ended = watcher.watch(path), asyncio.Event()
    assert watcher.watch(path) is file
    reading = asyncio.create_task(read(file, LogOptions(follow=True), ended))
    await asyncio.sleep(0.05)
    with path.open("ab") as stream:
        stream.write(b"2\n")
    await asyncio.sleep(0.2)
    assert not reading.done()
    with path.open("ab") as stream:
        stream.write(b"3\n")
    ended.set()
    assert await reading == b"1\n2\n3\n"
    assert len(file.offsets) >= 2
    watcher.close()


async def test_a_new_line_reaches_a_follower_soon(tmp_path: Path):
    watcher = LogWatcher()
    path = tmp_path / "0.log"
    path.touch()
    stream = read_log(watcher.watch(path), LogOptions(follow=True), asyncio.Event())
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.02)
    path.write_bytes(b"now\n")
    assert await asyncio.wait_for(waiting, 10) == b"now\n"
    await stream.aclose()
    watcher.close()


async def test_a_line_as_long_as_the_file_is_read_in_one_pass(tmp_path: Path):
    # 20 MB took minutes when each block was put in front of, or behind, all that was read before.
    size = 20_000_000
    file = log_of(tmp_path, b"x" * size)
    begun = time.monotonic()
    assert tail_offset(file.path, 3) == 0
    assert len(await read(file, LogOptions(timestamps=True))) == size + len("1970-01-01T00:16:40.000000Z \n")
    assert time.monotonic() - begun < 15


def test_the_last_lines_may_begin_in_any_block(tmp_path: Path):
    content = b"".join(b"%d\n" % number for number in range(40_000))
    file = log_of(tmp_path, content)
    for lines in (1, 10_000, 13_107, 39_999, 40_000, 50_000):
        assert content[tail_offset(file.path, lines) :] == b"".join(content.splitlines(keepends=True)[-lines:])


async def test_a_log_that_grows_too_long_is_cut_and_followed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "LOG_LIMIT", 1000)
    file = log_of(tmp_path, b"")
    ended, heard = asyncio.Event(), bytearray()

    async def follow() -> None:
        async for piece in read_log(file, LogOptions(follow=True), ended):
            heard.extend(piece)

    following = asyncio.create_task(follow())
    with file.path.open("ab", buffering=0) as program:
        for number in range(30):
            program.write(b"%d %s\n" % (number, b"x" * 100))
            file.note()
            await asyncio.sleep(0.001)
        program.write(b"the end\n")
        ended.set()
        await following
    assert file.path.stat().st_size < 1200 and file.path.read_bytes().startswith(CUT)
    assert bytes(heard).endswith(b"the end\n") and bytes(heard).count(CUT) == 3
    assert b"29 xxx" in heard and b"20 xxx" in heard
