"""What is on the wire: capture."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from labkit.cli.shared import cluster_option, emit, json_option, main, say
from labkit.cli.words import namespace_option, opened, qualified


@main.command("capture")
@click.argument("server", required=False)
@namespace_option
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="For how long.")
@click.option("--port", type=int, default=None, help="Only this port of the workload.")
@click.option(
    "-w", "--write", type=click.Path(path_type=Path), default=None, help="Write a .pcapng or .pcap file, too."
)
@click.option("-r", "--read", type=click.Path(path_type=Path), default=None, help="Show a file instead.")
@click.option("--inside", is_flag=True, help="What the sidecar hands to its application: mTLS ends at the proxy.")
@click.option("--image", default="", help="An image with sh and tcpdump, if not nicolaka/netshoot.")
@cluster_option
@json_option
def capture(
    server: str | None,
    namespace: str | None,
    seconds: float,
    port: int | None,
    inside: bool,
    write: Path | None,
    read: Path | None,
    image: str,
    cluster: str,
    as_json: bool,
) -> None:
    """Show what crosses to a workload's ports: plaintext as plaintext, mTLS as TLS.

    SERVER is a pod or a Deployment: shop/server. Send something meanwhile, from another shell. tcpdump runs in an
    ephemeral container, as with `kubectl debug`. Ctrl-C ends it earlier, and shows what was seen. With --read no
    cluster is needed.
    """
    if read:
        from labkit.observe.recording import read_recording
        from labkit.views.wire import Wire

        found = Wire(read_recording(read))
        emit(found.as_data(), as_json, str(found))
        return
    if not server:
        raise click.UsageError("Name a server, such as shop/server, or a file with --read.")
    with opened(cluster) as lab:
        wire = lab.capture(qualified(server, namespace), port=port, inside=inside, image=image, limit=seconds + 60)
        say(f"Looking at {wire.server} for {seconds:g} s (Ctrl-C ends it earlier) ...")
        with contextlib.suppress(KeyboardInterrupt):  # as tcpdump: what was seen until then is shown and kept
            wire.wait(seconds)
        wire.stop()
        if write:
            say(str(wire.save(write)))
        emit(wire.as_data(), as_json, str(wire))
