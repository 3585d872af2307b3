"""`python -m labkit.embedded.controlplane`: istiod's process, the program of the image istio/pilot."""

from __future__ import annotations

import asyncio
import logging
import sys

from labkit.embedded.controlplane.istiod import Istiod
from labkit.embedded.controlplane.settings import from_process
from labkit.errors import LabError


def main() -> int:
    """Run istiod; the exit code. Arguments, such as Istio's `discovery`, are accepted and ignored."""
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s\t%(levelname)s\t%(message)s", datefmt="%FT%TZ"
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    try:
        asyncio.run(Istiod(from_process()).run())
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
