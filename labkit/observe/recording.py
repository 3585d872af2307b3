"""A capture that was saved: by labkit, by Wireshark, or by tcpdump itself. Read without a cluster."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import dpkt

from labkit.errors import InputError
from labkit.observe.packets import Address, CaptureFile, RawPacket, read_file, tcp_packets


@dataclass
class Recording:
    """What a file holds, in the place of a capture that is over."""

    server: str
    content: CaptureFile
    names: dict[str, str] = field(default_factory=dict)
    targets: tuple[()] = ()
    inside: bool = False
    running: bool = False
    ended: float = 1.0

    def __post_init__(self) -> None:
        self._servers = servers_of(list(tcp_packets(self.content)))

    @property
    def notes(self) -> list[str]:
        return []

    @property
    def seconds(self) -> float:
        times = [moment for moment, _ in self.content.records]
        return max(times) - min(times) if times else 0.0

    def file(self) -> CaptureFile:
        """The packets."""
        return self.content

    def wait(self, seconds: float) -> None:
        """It is over."""

    def stop(self) -> None:
        """It is over."""

    def is_server(self, end: Address) -> bool:
        """Whether this end of a connection was called, and did not call."""
        return end in self._servers


def servers_of(packets: list[RawPacket]) -> frozenset[Address]:
    """Those who were called: SYN went to them, or else they speak with several, or from the lower port."""
    called = {one.target for one in packets if one.flags & 0x12 == dpkt.tcp.TH_SYN}
    peers = Counter(end for pair in {frozenset((one.source, one.target)) for one in packets} for end in pair)
    for one in packets:
        if one.source not in called and one.target not in called:
            called.add(max(one.source, one.target, key=lambda end: (peers[end], -end[1])))
    return frozenset(called)


def read_recording(path: str | Path, names: dict[str, str] | None = None) -> Recording:
    """A pcap or pcapng file. Raises InputError when it is none, or is not there."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", next_step="Name a .pcap or .pcapng file."
        ) from error
    found = read_file(content)
    if not found.records:
        raise InputError(
            f"{path} holds no packets.",
            meaning="It is empty, or no pcap or pcapng file.",
            next_step="Save one: wire.save('before.pcapng'), or tcpdump -w before.pcap.",
        )
    return Recording(path.name, found, names or {})
