"""Run the API server alone: `python -m labkit.embedded.apiserver --name trial --block 77`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal

from labkit.embedded.apiserver import ApiServer
from labkit.embedded.paths import ClusterPaths
from labkit.errors import LabError


async def _run(name: str, block: int, port: int) -> None:
    paths = ClusterPaths(name)
    server = ApiServer(paths=paths, block=block, port=port)
    await server.start()
    print(paths.kubeconfig, flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await server.stop()


def main() -> int:
    """Serve until a signal comes; prints the kubeconfig's path once it answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="embedded", help="the cluster's name")
    parser.add_argument("--block", type=int, default=77, help="X of its addresses 127.X.0.0/16")
    parser.add_argument("--port", type=int, default=6443)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_run(options.name, options.block, options.port))
    except LabError as error:
        print(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
