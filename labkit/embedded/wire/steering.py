"""Leading new connections of a port to a hop, by the kernel, without the server's help and without privileges.

Sockets that share a port (SO_REUSEPORT, all of one user) form a group, and a program of the classic BPF chooses one of
them for each new connection; socket(7), SO_ATTACH_REUSEPORT_CBPF. Envoy's listeners share their ports, and so do the
Python programs of pods. The hop joins the group, and the program says: to the hop, unless the packet bears the mark of
the hop's own connections, which go on to the server. The mark is a value of the IP header's type of service.

So neither Envoy nor istiod has to know, no address changes, and the end of a capture is one more `setsockopt`.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labkit.embedded.wire.segments import Address
from labkit.errors import MachineError

MARK = 0x1C
"""The type of service of a hop's own connections. Nothing else in a cluster sets one."""

BACKLOG = 512

_ATTACH = 51  # SO_ATTACH_REUSEPORT_CBPF, asm-generic/socket.h; the same on x86-64 and arm64
_SAVE_SYN, _SAVED_SYN = 27, 28  # tcp(7): TCP_SAVE_SYN, TCP_SAVED_SYN
_NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF, linux/filter.h
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_LOAD_BYTE, _LOAD_WORD = 0x30, 0x20  # BPF_LD|BPF_B|BPF_ABS, BPF_LD|BPF_W|BPF_ABS; linux/bpf_common.h
_MODULO, _JUMP_IF_EQUAL = 0x94, 0x15  # BPF_ALU|BPF_MOD|BPF_K, BPF_JMP|BPF_JEQ|BPF_K
_RETURN, _RETURN_RESULT = 0x06, 0x16  # BPF_RET|BPF_K, BPF_RET|BPF_A

Instruction = tuple[int, int, int, int]


def to_hop(servers: int) -> list[Instruction]:
    """The program for a hop that stands behind so many sockets of the server: marked connections alone go to those."""
    hop = [(_RETURN, 0, 0, servers)]
    return [(_LOAD_BYTE, 0, 0, _NETWORK_HEADER + 1), (_JUMP_IF_EQUAL, 1, 0, MARK), *hop, *to_servers(servers)]


def to_servers(servers: int) -> list[Instruction]:
    """The program that gives every connection to one of the first sockets of the group, as if there were no other."""
    if servers < 2:
        return [(_RETURN, 0, 0, 0)]
    return [(_LOAD_WORD, 0, 0, _RANDOM), (_MODULO, 0, 0, servers), (_RETURN_RESULT, 0, 0, 0)]


def attach(sock: socket.socket, program: Iterable[Instruction]) -> None:
    """Let the program choose for the group of `sock`. Raises MachineError when the kernel does not take it."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
    count = (len(code) - 1) // 8
    try:
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH, struct.pack("HP", count, ctypes.addressof(code)))
    except OSError as error:
        raise MachineError(
            f"This machine's kernel does not let labkit look at connections: {error.strerror}.",
            meaning="A capture needs SO_ATTACH_REUSEPORT_CBPF (Linux 4.5); some sandboxes, such as gVisor, lack it.",
            next_step="Capture on a machine or in a container with a Linux kernel of its own.",
        ) from error


def shared_listener(address: Address) -> socket.socket:
    """A listening socket that joins those that listen at `address`. Raises OSError when they do not share it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, _SAVE_SYN, 1)
        sock.bind(address)
        sock.setblocking(False)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def works() -> bool:
    """Whether this kernel takes such programs."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            attach(sock, to_hop(1))
        except MachineError:
            return False
        return True


def is_marked(accepted: socket.socket) -> bool:
    """Whether a connection that came to a hop is one that a hop has opened: then there is no server any more.

    It can be asked once of each connection.
    """
    try:
        header = accepted.getsockopt(socket.IPPROTO_TCP, _SAVED_SYN, 128)
    except OSError:  # it has ended already
        return False
    return len(header) > 1 and header[1] == MARK


# What the kernel knows of sockets

_LISTEN, _ESTABLISHED = "0A", "01"


@dataclass(frozen=True)
class Sockets:
    """The machine's TCP sockets over IPv4: who listens where, and which connections exist."""

    listening: dict[Address, frozenset[int]]
    """By address, the inodes of the sockets that share it."""
    connections: frozenset[tuple[Address, Address]]
    """(the address here, the address of the other side), once from each side."""


def read_sockets(table: Path = Path("/proc/net/tcp")) -> Sockets:
    """Read the kernel's table, proc(5)."""
    listening: dict[Address, frozenset[int]] = {}
    connections = set()
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == _LISTEN:
            address = _address(fields[1])
            listening[address] = listening.get(address, frozenset()) | {int(fields[9])}
        elif fields[3] == _ESTABLISHED:
            connections.add((_address(fields[1]), _address(fields[2])))
    return Sockets(listening, frozenset(connections))


def _address(text: str) -> Address:
    """`0100007F:1F90` is 127.0.0.1:8080: the address as the machine's own number, the port as a plain one."""
    address, port = text.split(":")
    return socket.inet_ntoa(struct.pack("=I", int(address, 16))), int(port, 16)
