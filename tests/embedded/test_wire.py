"""The hop and its tap, on real sockets: what passes, what is seen, and that nobody notices."""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labkit.embedded.addresses import inside_ip
from labkit.embedded.wire import steering
from labkit.embedded.wire.hop import Hop
from labkit.embedded.wire.segments import FIN, RST, Segment
from labkit.embedded.wire.steering import read_sockets
from labkit.embedded.wire.tap import Tap, interface_of
from labkit.observe.packets import Kind, read_file, tcp_packets, tell_apart

ADDRESS = "127.98.7.1"
ROW = 7

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


async def until(what: str, condition: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says the same louder, until the other side has said everything."""
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


async def serve(handler: Handler = upper, *, port: int = 0, shared: bool = True) -> tuple[asyncio.Server, int]:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((ADDRESS, port))
    return await asyncio.start_server(handler, sock=sock), sock.getsockname()[1]


async def ask(port: int, data: bytes, *, source: str = "127.98.8.1") -> bytes:
    reader, writer = await asyncio.open_connection(ADDRESS, port, local_addr=(source, 0))
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


@dataclass
class World:
    """A tap, and what it asked for."""

    tap: Tap
    run_dir: Path
    renewed: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def looking(self, *arguments: str) -> AsyncIterator[Dump]:
        """The program tcpdump in the pod, once it listens."""
        row = self.run_dir / "p" / str(ROW)
        row.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "labkit.embedded.wire.tcpdump", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "POD_RUN": str(row), "POD_ROOT": str(self.run_dir)},
        )
        assert process.stderr and process.stdout
        said = ""
        while "listening on" not in said:
            line = await process.stderr.readline()
            assert line, said
            said += line.decode()
        dump = Dump(said)
        reading = asyncio.gather(process.stdout.read(), process.stderr.read())
        try:
            yield dump
        finally:
            if process.returncode is None:
                process.terminate()
            dump.out, rest = await reading
            dump.said += rest.decode()
            dump.code = await process.wait()


@dataclass
class Dump:
    """What the program wrote."""

    said: str
    out: bytes = b""
    code: int | None = None

    @property
    def packets(self) -> list[Any]:
        return tell_apart(tcp_packets(read_file(self.out)))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async def renew(address: str) -> None:
        found.renewed.append(address)

    tap = Tap(tmp_path, lambda row: (lambda address: interface_of(address, ADDRESS)) if row == ROW else None, renew)
    found = World(tap, tmp_path)
    await tap.start()
    yield found
    await tap.stop()


# What passes


async def test_bytes_are_the_same_in_both_directions(world: World) -> None:
    server, port = await serve()
    data = random.Random(1).randbytes(3_000_000)
    async with server, world.looking("-w", "-", f"port {port}") as dump:
        assert await ask(port, data) == data.upper()
    seen = {True: b"", False: b""}
    for raw in tcp_packets(read_file(dump.out)):
        seen[raw.target[1] == port] += raw.data
    assert seen == {True: data, False: data.upper()}


async def test_the_server_sees_the_clients_address(world: World) -> None:
    async def who(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(writer.get_extra_info("peername")[0].encode())
        writer.close()

    server, port = await serve(who)
    async with server, world.looking("-w", "-") as dump:
        assert await ask(port, b"") == b"127.98.8.1"
    assert dump.packets[0].source[0] == "127.98.8.1" and dump.packets[0].target == (ADDRESS, port)


async def test_a_reset_stays_a_reset_and_an_end_an_end(world: World) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(3) == b"cut":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    async def both(port: int) -> None:
        reader, writer = await asyncio.open_connection(ADDRESS, port)
        writer.write(b"cut")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert await ask(port, b"end") == b""

    server, port = await serve(cut)
    async with server:
        await both(port)
        async with world.looking("-w", "-") as dump:
            await both(port)
    assert [one.kind for one in dump.packets].count(Kind.RESET) == 1


async def test_one_side_may_be_silent_while_the_other_goes_on(world: World) -> None:
    server, port = await serve()
    async with server, world.looking("-w", "-") as dump:
        reader, writer = await asyncio.open_connection(ADDRESS, port)
        writer.write(b"one")
        assert await reader.read(3) == b"ONE"
        writer.write(b"two")
        writer.write_eof()
        assert await reader.read() == b"TWO"
        writer.close()
    assert [(one.kind, one.size) for one in dump.packets if one.size or one.kind is Kind.CLOSE] == [
        *((Kind.DATA, 3), (Kind.DATA, 3), (Kind.DATA, 3)),
        *((Kind.CLOSE, 0), (Kind.DATA, 3), (Kind.CLOSE, 0)),
    ]


async def test_connections_outlive_the_capture(world: World) -> None:
    server, port = await serve()
    async with server:
        async with world.looking("-w", "-") as dump:
            reader, writer = await asyncio.open_connection(ADDRESS, port)
            writer.write(b"one")
            assert await reader.read(3) == b"ONE"
        await until("its clients are asked to leave", lambda: world.renewed == [ADDRESS])
        writer.write(b"two")
        assert await reader.read(3) == b"TWO"
        assert sum(one.size for one in dump.packets) == 6
        assert await ask(port, b"new") == b"NEW"
        writer.close()
        await until("the hop is gone", lambda: not world.tap._hops)


# Who is seen


async def test_connections_from_before_are_renewed_or_told(world: World) -> None:
    server, port = await serve()
    async with server:
        reader, writer = await asyncio.open_connection(ADDRESS, port)
        async with world.looking("-w", "-") as dump:
            assert world.renewed == [ADDRESS]  # nobody listens to that here
            writer.write(b"old")
            assert await reader.read(3) == b"OLD"
        assert "not seen here, because they were open before: 1" in dump.said and dump.packets == []
        writer.close()
        await writer.wait_closed()


async def test_without_connections_nobody_is_asked_for_anything(world: World) -> None:
    server, port = await serve()
    async with server, world.looking("-w", "-") as dump:
        assert await ask(port, b"x") == b"X"
    assert world.renewed == [] and "open before" not in dump.said and len(dump.packets) > 3


async def test_only_what_is_wanted_is_handed_on(world: World) -> None:
    one, port = await serve()
    two, other = await serve()
    async with one, two, world.looking("-w", "-", f"port {port}") as some, world.looking("-w", "-") as every:
        assert await ask(port, b"x") == await ask(other, b"x") == b"X"
        assert len(read_sockets().listening[ADDRESS, port]) == 2  # one hop for both
    assert {one.target[1] for one in some.packets} & {port, other} == {port}
    assert {one.target[1] for one in every.packets} >= {port, other}


async def test_a_port_that_nobody_looks_at_has_no_hop(world: World) -> None:
    one, port = await serve()
    two, other = await serve()
    async with one, two, world.looking("-w", "-", f"port {port}"):
        listening = read_sockets().listening
        assert (len(listening[ADDRESS, port]), len(listening[ADDRESS, other])) == (2, 1)


async def test_a_port_that_is_not_shared_is_told(world: World) -> None:
    server, port = await serve(shared=False)
    async with server, world.looking("-w", "-") as dump:
        assert await ask(port, b"x") == b"X"
    assert f"port {port}: its program shares it with nobody" in dump.said and dump.packets == []


async def test_inside_and_outside_are_two_wires(world: World) -> None:
    """The proxy listens at the pod's address, the application behind it at that of its inside."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    outside, port = await serve()
    sock.bind((inside_ip(ADDRESS), port))
    inside = await asyncio.start_server(upper, sock=sock)

    async def say(address: str, words: bytes) -> None:
        reader, writer = await asyncio.open_connection(address, port)
        writer.write(words)
        assert await reader.read(10) == words.upper()
        writer.close()

    async with (
        outside,
        inside,
        world.looking("-i", "lo", "-w", "-") as lo,
        world.looking("-i", "any", "-w", "-") as both,
        world.looking("-w", "-") as eth0,
    ):
        await say(ADDRESS, b"out")
        await say(inside_ip(ADDRESS), b"in")
    seen = [{one.text for one in dump.packets if one.size} for dump in (eth0, lo, both)]
    assert seen == [{"out", "OUT"}, {"in", "IN"}, {"out", "OUT", "in", "IN"}]
    assert {one.target[0] for one in lo.packets if one.target[1] == port} == {ADDRESS}  # as it would be in life


# Servers that come and go


async def test_a_server_that_starts_meanwhile_is_seen(world: World) -> None:
    async with world.looking("-w", "-") as dump:
        server, port = await serve()
        async with server:
            await until("a hop", lambda: len(read_sockets().listening.get((ADDRESS, port), ())) == 2)
            assert await ask(port, b"x") == b"X"
    assert sum(one.size for one in dump.packets) == 2


async def test_servers_with_several_sockets_share_the_work_while_and_after(world: World) -> None:
    def named(name: bytes) -> Handler:
        async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(name)
            writer.close()

        return handler

    one, port = await serve(named(b"one"))
    two, _ = await serve(named(b"two"), port=port)
    async with one, two:
        async with world.looking("-w", "-") as dump:
            assert {await ask(port, b"") for _ in range(30)} == {b"one", b"two"}
        assert len([packet for packet in dump.packets if packet.kind is Kind.DATA]) == 30
        assert {await ask(port, b"") for _ in range(30)} == {b"one", b"two"}


async def test_a_server_that_is_started_anew_is_reached(world: World) -> None:
    server, port = await serve()
    async with world.looking("-w", "-") as dump:
        assert await ask(port, b"one") == b"ONE"
        server.close()
        await until("the hop leaves", lambda: (ADDRESS, port) not in read_sockets().listening)
        with pytest.raises(ConnectionRefusedError):
            await ask(port, b"x")
        server, _ = await serve(port=port)
        await until("the hop is back", lambda: len(read_sockets().listening[ADDRESS, port]) == 2)
        assert await ask(port, b"two") == b"TWO"
        server.close()
    assert sum(one.size for one in dump.packets) == 12


async def test_a_hop_that_is_alone_does_not_call_itself() -> None:
    server, port = await serve()
    hop = Hop((ADDRESS, port), (ADDRESS, port))
    told: list[Segment] = []
    hop.listeners.append(told.append)
    hop.steer(read_sockets().listening[ADDRESS, port])
    server.close()  # and nobody looks at the sockets again
    with pytest.raises(ConnectionResetError):
        await ask(port, b"x")
    assert [one.flags & RST for one in told].count(RST) == 1 and not any(one.flags & FIN for one in told)
    await hop.close()


async def test_a_kernel_that_cannot_is_told_and_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "_ATTACH", 9999)  # as in a sandbox without SO_ATTACH_REUSEPORT_CBPF
    server, port = await serve()
    async with server:
        code, said = await refused(world)
        assert code == 1 and "kernel does not let labkit look at connections" in said
        await until("nothing is left", lambda: len(read_sockets().listening[ADDRESS, port]) == 1)
        assert await ask(port, b"x") == b"X"


# The program


async def refused(world: World, *arguments: str, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "labkit.embedded.wire.tcpdump", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "POD_RUN": str(world.run_dir / "p" / str(ROW)), **environment},
    )
    out, error = await process.communicate()
    return process.returncode, (out + error).decode()


async def test_what_the_program_refuses(world: World) -> None:
    for arguments, words in ((("-i", "eth1"), "No such device"), (("port", "x"), "can't parse filter expression")):
        code, said = await refused(world, *arguments)
        assert code == 1 and words in said
    code, said = await refused(world, POD_RUN=str(world.run_dir / "p" / "9"))
    assert code == 1 and "none of the node's" in said
    code, said = await refused(world, POD_RUN="/nonexistent/p/7")
    assert code == 1 and "You don't have permission to capture" in said
    assert (await refused(world, "-D"))[1].startswith("1.eth0")


async def test_text_and_counts(world: World) -> None:
    server, port = await serve()
    async with server, world.looking("-c", "4", "-A", f"port {port}") as dump:
        assert await ask(port, b"a word") == b"A WORD"
    text = dump.out.decode()
    assert "Flags [S]" in text.splitlines()[0]
    assert re.search(r"Flags \[P\.\], seq 1:7, ack 1, length 6\nE.*?a word\n", text, re.DOTALL)
    assert "4 packets captured" in dump.said and dump.code == 0


async def test_a_file_in_the_pod(world: World) -> None:
    server, port = await serve()
    async with server, world.looking("-w", "/seen.pcap", "-s", "60"):
        assert await ask(port, b"x" * 100) == b"X" * 100
    records = read_file((world.run_dir / "seen.pcap").read_bytes()).records
    assert max(len(packet) for _, packet in records) == 60
