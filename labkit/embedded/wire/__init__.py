"""The wire of the embedded cluster: who may look at what crosses to a pod's port, and how.

A real node has network interfaces, and tcpdump reads copies of their packets. Here pods are processes that talk over
loopback, and nobody without privileges may read there. So while somebody captures, new connections to a port pass a
hop of the node's, which hands every byte on as it came and keeps a copy:

    steering    the kernel leads new connections of a port to the hop instead of the server, without the server's help
    hop         takes a connection, opens the same one to the server, passes bytes, ends and resets on
    segments    what crossed, as TCP segments, and as packets of a pcap file (pure)
    expression  tcpdump's filter expressions (pure)
    tap         which hops a capture needs; the socket on which the program `tcpdump` of a pod asks for one
    tcpdump     that program: the options of tcpdump that people use

With a sidecar there are two wires: the one to the proxy (`eth0`), and the one from it to the application (`lo`).
The hop stands beneath TLS and HTTP and beneath every proxy, so what it sees is what crosses: plaintext as plaintext,
mTLS as TLS records. Without a capture there is no hop, and nothing costs anything.
"""

from pathlib import Path

RENEW_CONNECTIONS = "labkit/renew-connections"
"""An annotation of pods. When it changes, the proxies of the mesh open new connections to the pod."""


RENEW_INSIDE = "labkit/renew-inside"
"""The same for the connections that the pod's own proxy has to its application."""


def socket_path(run_dir: Path) -> Path:
    """Where programs ask for packets, below the run directory of the cluster."""
    return run_dir / "tap"
