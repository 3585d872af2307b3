"""What is on the wire: packets between pods, before and after a policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labkit.cluster import Cluster
from labkit.observe import capture
from labkit.observe.capture import LIMIT
from labkit.observe.recording import read_recording

if TYPE_CHECKING:
    from labkit.views.wire import Wire
    from labkit.views.wire_pairs import Beside


class OnTheWire:
    """What Lab can tell of the bytes.

    with lab.capture("shop/server") as wire: ...     what crosses to a workload's ports meanwhile; then `wire` shows it
    lab.capture("shop/server", seconds=10)   the same for so long; port= for one port; inside=True: between the proxy
                                             and its application; .packets .connections .requests .readable .encrypted
                                             .save("x.pcapng")
    lab.compare_captures(before, after)      two of them side by side
    lab.read_capture("x.pcapng")             one that was saved, by whomever
    """

    cluster: Cluster

    def capture(
        self,
        server: str,
        *,
        seconds: float | None = None,
        port: int | None = None,
        inside: bool = False,
        image: str = "",
        limit: float = LIMIT,
    ) -> Wire:
        """Look at what crosses to a workload's ports: by tcpdump in an ephemeral container of each of its pods.

        With `seconds` it returns after so long. Without, it goes on behind your back until `.stop()` or the end of
        its `with` block, at most `limit` seconds. The traffic does not notice. With `inside` it looks at what the
        sidecar hands to its application, which is plaintext: mTLS ends at the proxy.
        """
        from labkit.views.wire import Wire

        wire = Wire(capture.start(self.cluster, server, port=port, inside=inside, image=image, limit=seconds or limit))
        if seconds is not None:
            wire.wait(seconds)
            wire.stop()
        return wire

    def read_capture(self, path: str | Path) -> Wire:
        """A capture from a file: saved by labkit, by Wireshark or by tcpdump. Addresses get the names of today."""
        from labkit.views.wire import Wire

        return Wire(read_recording(path, capture.names_by_address(self.cluster)))

    def compare_captures(self, before: Wire, after: Wire) -> Beside:
        """Two captures of a server next to each other."""
        return before.beside(after)
