"""Choosing the block of loopback addresses of a cluster, once, and keeping it across restarts."""

from __future__ import annotations

import socket
import zlib

from labkit.embedded.addresses import FIRST_BLOCK, LAST_BLOCK, node_ip
from labkit.embedded.paths import ClusterPaths
from labkit.errors import MachineError

API_PORT = 6443


def claim_block(paths: ClusterPaths) -> int:
    """The block number of this cluster: the one it had, else the first that is free on this machine.

    The search starts at a number made from the user-independent name, so that the same cluster tends to get the
    same addresses. Raises MachineError when no block is free, or when 127/8 is not wholly local.
    """
    record = paths.state_dir / "block"
    if record.exists():
        return int(record.read_text())
    count = LAST_BLOCK - FIRST_BLOCK + 1
    start = zlib.crc32(paths.name.encode()) % count
    for step in range(count):
        block = FIRST_BLOCK + (start + step) % count
        if is_free(block):
            record.write_text(str(block))
            return block
    raise MachineError(
        f"No block of loopback addresses is free: 127.{FIRST_BLOCK}.0.0/16 to 127.{LAST_BLOCK}.0.0/16 are all taken.",
        meaning="Each embedded cluster needs a block of its own, and other clusters on this machine hold them all, "
        "or this system does not let a program bind addresses other than 127.0.0.1.",
        next_step="End a cluster that you no longer need with 'labkit down --name NAME', and see 'labkit doctor'.",
    )


def is_free(block: int) -> bool:
    """Whether nobody listens on the block's API address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((node_ip(block), API_PORT))
        except OSError:
            return False
    return True
