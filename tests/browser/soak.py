"""Minutes of a live map under traffic: memory of kernel and browser, the browser's console. Not a test: it prints.

python -m tests.browser.soak --minutes 10 --rps 50
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import urllib.request
from pathlib import Path

import click
import psutil

from labkit.embedded import lifecycle
from tests.browser.page import ROOT, TOKEN, Notebook, jupyter, missing, opened

CELL = """half = {rps} / 2
for client, host in (("azureopenai/chatfrontend", "chatbackend-service"),
                     ("default/curl-outside", "chatbackend-service.azureopenai")):
    lab.start_traffic(client, f"http://{{host}}:5000/healthz", rps=half, concurrency=2)
import os; print("kernel", os.getpid())"""


def _browser_memory(notebook: Notebook) -> float:
    """The page's JavaScript heap after a collection, in MB."""
    session = notebook.page.context.new_cdp_session(notebook.page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return metrics["JSHeapUsedSize"] / 1e6


def _kernel(address: str) -> psutil.Process:
    with urllib.request.urlopen(f"{address}/api/kernels?token={TOKEN}") as answer:
        kernel_id = json.load(answer)[0]["id"]
    return next(p for p in psutil.process_iter(["cmdline"]) if kernel_id in " ".join(p.info["cmdline"] or []))


def _write(directory: Path, rps: float) -> None:
    notebook = json.loads((ROOT / "notebooks" / "console.ipynb").read_text(encoding="utf-8"))
    cell = {"cell_type": "code", "id": "soak", "metadata": {}, "outputs": [], "execution_count": None}
    notebook["cells"].append({**cell, "source": CELL.format(rps=rps)})
    (directory / "console.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


@click.command()
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--rps", default=50.0, show_default=True)
def main(minutes: float, rps: float) -> None:
    """Watch, and print a line every half minute."""
    if lacking := missing():
        raise click.ClickException(f"Install {lacking}")
    os.environ["LABKIT_HOME"] = tempfile.mkdtemp(prefix="labkit-soak-")
    directory = Path(tempfile.mkdtemp(prefix="labkit-soak-desk-"))
    _write(directory, rps)
    try:
        with jupyter(directory) as address, opened(address, "console.ipynb") as notebook:
            notebook.run_all(110)
            notebook.page.wait_for_selector(".lkw-stage svg", timeout=20_000)
            kernel, started = _kernel(address), time.monotonic()
            cpu = kernel.cpu_times()
            print("minute  kernel MB  browser MB  kernel CPU %  edge", flush=True)
            while (passed := time.monotonic() - started) < 60 * minutes:
                notebook.page.wait_for_timeout(30_000)
                now = kernel.cpu_times()
                share = 100 * (now.user + now.system - cpu.user - cpu.system) / (time.monotonic() - started - passed)
                cpu = now
                edge = notebook.edge("azureopenai/chatfrontend", "azureopenai/chatbackend")
                told = edge.locator(".lkm-second").text_content()
                resident = kernel.memory_info().rss / 1e6
                heap = _browser_memory(notebook)
                line = f"{passed / 60 + 0.5:6.1f}  {resident:9.1f}  {heap:10.1f}  {share:12.1f}  {told}"
                print(line, flush=True)
            print(f"errors in the browser's console: {notebook.problems or 'none'}")
    finally:
        lifecycle.down("embedded", purge=True)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
