"""The address plan of an embedded cluster. Pure arithmetic: no socket is opened here.

A cluster owns one block `127.X.0.0/16` of loopback addresses (`X` from 64 to 254), cut by rows:

    127.X.0.S    row 0 is the node: the ClusterIP of service S; 127.X.0.1 is the API server and the kubelet
    127.X.P.1    the pod address of pod P (P from 1 to 254): what others connect to
    127.X.P.2    the inside of pod P: where its application listens and what it calls localhost
                 once istio-init has redirected the pod's traffic; only the pod's own proxy connects to it
    127.X.P.S    (S from 10) how pod P sees service S once its traffic is redirected: its own proxy listens here

The last columns are for hosts outside of Kubernetes (ServiceEntry): they have no address in row 0, and exist in the
rows of redirected pods alone, as Istio's own addresses 240.240.0.0/16 do.

So a redirected pod reaches service 127.X.0.S through its proxy at 127.X.P.S, on the same port: the same row and
column that iptables would have crossed in a real pod's network namespace.

A process without privileges cannot bind ports below 1024, so those are moved up by 20000 on the wire (port 80 is
20080). Manifests, Services and URLs keep the port that the learner wrote; `listen_port` is applied where a socket
is bound or connected, and in Envoy's configuration.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from zlib import crc32

FIRST_BLOCK, LAST_BLOCK = 64, 254
FIRST_POD, LAST_POD = 1, 254
FIRST_SERVICE, LAST_SERVICE = 10, 214
FIRST_HOST, LAST_HOST = 215, 254
LOW_PORT_SHIFT = 20000


def node_ip(block: int) -> str:
    """Address of the node, the API server and the ClusterIP of the Service `kubernetes`."""
    return f"127.{block}.0.1"


def pod_ip(block: int, row: int) -> str:
    """Address of the pod in `row`."""
    return f"127.{block}.{row}.1"


def cluster_ip(block: int, column: int) -> str:
    """ClusterIP of the service in `column`."""
    return f"127.{block}.0.{column}"


def inside_ip(pod_address: str) -> str:
    """Where the application of a redirected pod listens, from its pod address."""
    octets = pod_address.split(".")
    return ".".join([*octets[:3], "2"])


def outside_ip(address: str) -> str:
    """The pod address of the pod that an address belongs to, its own or that of its inside."""
    return ".".join([*address.split(".")[:3], "1"])


def captured_ip(pod_address: str, cluster_address: str) -> str:
    """Where a redirected pod finds a service: the pod's row, the service's column."""
    return ".".join([*pod_address.split(".")[:3], cluster_address.split(".")[3]])


def host_columns(hosts: Iterable[str]) -> dict[str, int]:
    """The columns of hosts outside of Kubernetes, in the order in which they may choose.

    The node and istiod both ask, and must hear the same without talking to each other; and a host should keep its
    column when others come and go. So a column is a hash of the name, or the next that is free. What finds none is
    left out. (Istio chooses the same way: pilot/pkg/serviceregistry/serviceentry, autoAllocateIPs.)
    """
    count = LAST_HOST - FIRST_HOST + 1
    columns: dict[str, int] = {}
    taken: set[int] = set()
    for host in dict.fromkeys(hosts):
        wished = crc32(host.encode())
        free = (FIRST_HOST + (wished + step) % count for step in range(count))
        column = next((one for one in free if one not in taken), None)
        if column is not None:
            columns[host] = column
            taken.add(column)
    return columns


def wire_port(address: str, port: int) -> int:
    """The port on the wire at this address: low ports are moved inside of clusters, and nowhere else."""
    octets = address.split(".")
    ours = len(octets) == 4 and octets[0] == "127" and octets[1].isdigit() and int(octets[1]) >= FIRST_BLOCK
    return listen_port(port) if ours else port


def listen_port(port: int) -> int:
    """The port on the wire for a port in a manifest: ports below 1024 are moved up by 20000."""
    return port + LOW_PORT_SHIFT if port < 1024 else port


def declared_port(port: int) -> int:
    """The port in a manifest for a port on the wire; the inverse of `listen_port`."""
    return port - LOW_PORT_SHIFT if LOW_PORT_SHIFT < port < LOW_PORT_SHIFT + 1024 else port


def block_of(address: str) -> int:
    """The block number `X` of an address `127.X.a.b`."""
    return IPv4Address(address).packed[1]
