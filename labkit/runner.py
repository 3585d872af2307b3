"""Running the lessons without a person: papermill, one after the other, with a report.

A lesson passes when every cell was executed (a cell left pending is a failure, even when papermill raised
nothing: `SystemExit` in a cell stops a run silently), no cell raised, and no check failed.
The embedded cluster of a run is one of its own: made empty before, removed after.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import queue
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.errors import InputError, MachineError

RUN_CLUSTER = "run"
CELL_TIMEOUT = 240
"""Seconds for one cell: more than two of labkit's own waits (90 s), so that a wait in vain ends with its sentence.
Lessons' cells take seconds; without any limit a stuck widget message waits for ever."""

PAGE_STYLE = """<style>
.jp-RenderedMarkdown .highlight pre { font-family: var(--jp-code-font-family, monospace); line-height: 1.4;
  background: var(--jp-cell-editor-background, #f5f5f5); padding: 6px 10px; margin: 0 0 1em; }
</style>"""
"""nbconvert's template shows code in a text as text: without a background, a fixed-width font or a margin."""


@dataclass
class Check:
    """One check as the lesson recorded it."""

    name: str
    passed: bool
    pending: bool
    message: str


@dataclass
class LessonRun:
    """What happened to one notebook."""

    source: Path
    executed: Path
    cells: int = 0
    seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)
    failure: str = ""

    @property
    def label(self) -> str:
        """Its name in a report: "05_half_a_mesh", or "solutions/05_half_a_mesh"."""
        return label_of(self.source)

    @property
    def failed_checks(self) -> list[Check]:
        return [c for c in self.checks if not c.passed and not c.pending]

    @property
    def ok(self) -> bool:
        return not self.failure and not self.failed_checks


def label_of(notebook: Path) -> str:
    """The name of a notebook in a report; lessons and their solutions have the same file name."""
    return f"solutions/{notebook.stem}" if notebook.parent.name == "solutions" else notebook.stem


def find_lessons(root: Path, names: Sequence[str] = (), *, solutions: bool = False) -> list[Path]:
    """The numbered notebooks below `root`/notebooks in order; `names` are prefixes ("04") or paths.

    With `solutions`, the worked exercises of each lesson follow it.
    """
    lessons = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not lessons and not any(Path(name).exists() for name in names):
        raise InputError(
            f"There are no lessons in {root.absolute()}.",
            meaning="labkit looks for notebooks/00_....ipynb and the like below the working directory.",
            next_step="Change to the top of the repository and try again.",
        )
    if not names:
        return with_solutions(lessons) if solutions else lessons
    chosen: list[Path] = []
    for name in names:
        path = Path(name)
        found = [path] if path.suffix == ".ipynb" and path.exists() else [n for n in lessons if n.name.startswith(name)]
        if not found:
            raise InputError(
                f"There is no lesson {name!r}.",
                next_step="Name one of: " + ", ".join(n.name[:2] for n in lessons) + ", or the path of a notebook.",
            )
        chosen += found
    return with_solutions(chosen) if solutions else chosen


def with_solutions(lessons: Sequence[Path]) -> list[Path]:
    """Each lesson, and after it its worked exercises."""
    pairs = [(lesson, lesson.parent / "solutions" / lesson.name) for lesson in lessons]
    return [path for pair in pairs for path in pair if path == pair[0] or path.exists()]


def run_lessons(
    lessons: Sequence[Path], output: Path, *, cluster: str | None = None, progress: bool = True, jobs: int = 1
) -> list[LessonRun]:
    """Execute the notebooks and write executed notebooks, HTML pages, index.html and junit.xml to `output`.

    `cluster` is what `labkit.open` takes; None means an embedded cluster of the run's own. With more `jobs`, so many
    notebooks run at once, each on a cluster of its own; one that was named is never shared.
    """
    _require_writable(output)
    if cluster is not None or jobs < 2 or len(lessons) < 2:
        runs = _run_in_turn(lessons, output, cluster, progress)
    else:
        runs = _run_at_once(lessons, output, min(jobs, len(lessons)))
    write_html(runs, output)
    write_junit(runs, output / "junit.xml")
    return runs


def _run_in_turn(lessons: Sequence[Path], output: Path, cluster: str | None, progress: bool) -> list[LessonRun]:
    with _jupyter_environment(output), _run_cluster(cluster) as target:
        return [_run_one(lesson, output, target, progress) for lesson in lessons]


def _run_at_once(lessons: Sequence[Path], output: Path, jobs: int) -> list[LessonRun]:
    """Processes, not threads alone: where a kernel writes its results stands in the environment.

    A thread hands notebooks to each process, one after the other, and takes back what became of them.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for place in range(len(lessons)):
        waiting.put(place)
    runs: dict[int, LessonRun] = {}
    with ThreadPoolExecutor(jobs, thread_name_prefix="lessons") as pool:
        for worker in [pool.submit(_feed, waiting, lessons, output, runs) for _ in range(jobs)]:
            worker.result()
    return [runs[place] for place in range(len(lessons))]


def _feed(waiting: queue.SimpleQueue[int], lessons: Sequence[Path], output: Path, runs: dict[int, LessonRun]) -> None:
    command = [sys.executable, "-m", "labkit.runner", str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin and worker.stdout
        while True:
            try:
                place = waiting.get_nowait()
            except queue.Empty:
                worker.stdin.close()
                return
            with contextlib.suppress(BrokenPipeError):
                print(lessons[place].absolute(), file=worker.stdin, flush=True)
            runs[place] = _read_run(worker.stdout.readline(), lessons[place], output)


def _read_run(line: str, lesson: Path, output: Path) -> LessonRun:
    if not line:
        lost = "The process that ran this notebook ended before it was done."
        return LessonRun(lesson, output / f"{label_of(lesson)}.ipynb", failure=lost)
    row = json.loads(line)
    paths = {"source": lesson, "executed": output / f"{label_of(lesson)}.ipynb"}
    return LessonRun(**{**row, **paths, "checks": [Check(**check) for check in row["checks"]]})


def work(output: Path) -> None:
    """Run the notebooks whose paths come in, line by line, and answer each with a line of JSON."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed must not be taken for an answer
    with _jupyter_environment(output), _run_cluster(None) as target:
        for line in sys.stdin:
            run = _run_one(Path(line.strip()), output, target, False)
            print(json.dumps(dataclasses.asdict(run), default=str), file=answers, flush=True)


def _require_writable(output: Path) -> None:
    """Make the directory, or say who cannot write there before any lesson runs in vain."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        earlier = [*(p for p in output.iterdir() if p.is_file()), *(output / ".jupyter").rglob("*")]
        left_over = [path for path in earlier if not os.access(path, os.W_OK)]
        cause = f"{left_over[0]} belongs to somebody else" if left_over else ""
        cause = cause or ("" if os.access(output, os.W_OK | os.X_OK) else "the directory is not writable")
    except OSError as error:
        cause = error.strerror or str(error)
    if cause:
        raise MachineError(
            f"The report cannot be written to {output}: {cause}.",
            meaning="Nothing was run.",
            next_step="Choose another directory: labkit run --output DIRECTORY.",
            path=str(output),
        )


def _run_one(lesson: Path, output: Path, cluster: str, progress: bool) -> LessonRun:
    import papermill
    from papermill.exceptions import PapermillException

    run = LessonRun(lesson, output / f"{label_of(lesson)}.ipynb")
    run.executed.parent.mkdir(exist_ok=True)
    results = run.executed.with_suffix(".checks.jsonl")
    results.unlink(missing_ok=True)
    os.environ["LABKIT_RESULTS"] = str(results.absolute())
    print(run.label, file=sys.stderr, flush=True)
    started = time.monotonic()
    try:
        papermill.execute_notebook(
            lesson,
            run.executed,
            parameters={"cluster": cluster},
            cwd=lesson.parent,
            kernel_name="python3",
            progress_bar=progress,
            execution_timeout=CELL_TIMEOUT,
            start_timeout=60,
            log_output=False,
            store_widget_state=False,  # the outputs hold pictures and words beside the widgets
        )
    except (PapermillException, RuntimeError, TimeoutError) as error:
        run.failure = _plain(str(error)) or repr(error)
    run.seconds = time.monotonic() - started
    run.checks = _read_checks(results)
    results.unlink(missing_ok=True)
    notebook = json.loads(run.executed.read_text()) if run.executed.exists() else {"cells": []}
    code_cells = [
        cell
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    run.cells = len(code_cells)
    run.failure = run.failure or unexecuted(code_cells)
    return run


def unexecuted(code_cells: Sequence[dict[str, Any]]) -> str:
    """A sentence about cells that never ran to their end, or an empty string."""
    left = [
        str(number)
        for number, cell in enumerate(code_cells, 1)
        if cell.get("metadata", {}).get("papermill", {}).get("status") != "completed"
        and "skip-execution" not in cell.get("metadata", {}).get("tags", [])
    ]
    if not code_cells:
        return "The notebook has no code cells, or was not executed."
    return f"Code cells {', '.join(left)} of {len(code_cells)} were not executed to their end." if left else ""


def _read_checks(results: Path) -> list[Check]:
    if not results.exists():
        return []
    checks = []
    for line in results.read_text().splitlines():
        row = json.loads(line)
        message = (
            f"expected: {row.get('expected', '')}; observed: {row.get('observed', '')}; hint: {row.get('hint', '')}"
        )
        checks.append(Check(row["name"], row["passed"], row.get("pending", False), message))
    return checks


@contextlib.contextmanager
def _run_cluster(cluster: str | None) -> Iterator[str]:
    """The embedded cluster of this run, empty at the start and gone at the end; or the one that was named."""
    if cluster is not None:
        yield cluster
        return
    from labkit.cluster.opening import embedded_lifecycle

    name = f"{RUN_CLUSTER}-{os.getpid()}"
    lifecycle = embedded_lifecycle()
    lifecycle.down(name, purge=True)
    lifecycle.up(name, until_pid=os.getpid())
    try:
        yield f"embedded:{name}"
    finally:
        lifecycle.down(name, purge=True)


def jupyter_directories(private: Path) -> dict[str, Path]:
    """The variables that keep what Jupyter, IPython and matplotlib write below `private`, and out of a home."""
    return {
        "JUPYTER_CONFIG_DIR": private / "config",
        "JUPYTER_DATA_DIR": private / "data",
        "JUPYTER_RUNTIME_DIR": private / "runtime",
        "IPYTHONDIR": private / "ipython",
        "MPLCONFIGDIR": private / "matplotlib",
    }


@contextlib.contextmanager
def _jupyter_environment(output: Path) -> Iterator[None]:
    """Jupyter's, IPython's and matplotlib's files go below `output`: a run must not depend on somebody's settings,
    and a service user may have no home directory at all.
    """
    private = output / ".jupyter"
    wanted = jupyter_directories(private)
    before = {key: os.environ.get(key) for key in [*wanted, "LABKIT_RESULTS", "LABKIT_CI"]}
    for key, path in wanted.items():
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.environ[key] = str(path.absolute())
    os.environ["LABKIT_CI"] = "1"
    profile = private / "ipython" / "profile_default"
    profile.mkdir(exist_ok=True)
    # Kernels of a run warn on every start that TCP on loopback is not encrypted; it is noise in a report.
    (profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 40\n")
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def write_junit(runs: Sequence[LessonRun], path: Path) -> None:
    """One suite per notebook: a case for its execution and one for each check."""
    from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

    report = JUnitXml("mtls-lab")
    for run in runs:
        suite = TestSuite(run.label)
        execution = TestCase("runs to its end", classname=run.label, time=run.seconds)
        if run.failure:
            execution.result = [Failure(run.failure)]
        suite.add_testcase(execution)
        for check in run.checks:
            case = TestCase(check.name, classname=run.label)
            if check.pending:
                case.result = [Skipped("not yet solved: an exercise for the learner")]
            elif not check.passed:
                case.result = [Failure(check.message)]
            suite.add_testcase(case)
        report.add_testsuite(suite)
    report.write(str(path), pretty=True)


def write_html(runs: Sequence[LessonRun], output: Path) -> None:
    """Each executed notebook as a page, and index.html that links them."""
    import jinja2
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab")
    rows = []
    for run in runs:
        page = output / f"{run.label}.html"
        if run.executed.exists():
            notebook = nbformat.read(run.executed, as_version=4)
            for cell in notebook.cells:
                if cell.cell_type == "markdown":
                    cell.source = with_pictures(cell.source, run.source.parent)
            body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": run.executed.stem}})
            page.write_text(body.replace("</head>", PAGE_STYLE + "</head>", 1))
        rows.append({"run": run, "page": f"{run.label}.html", "title": run.label.replace("_", " ")})
    environment = jinja2.Environment(autoescape=True)
    template = environment.from_string((Path(__file__).parent / "runner_index.html").read_text())
    (output / "index.html").write_text(template.render(rows=rows, ok=all(r.ok for r in runs)))


def with_pictures(text: str, folder: Path) -> str:
    """A lesson's text with its SVG pictures inside, so that its page can be opened from anywhere."""

    def inside(found: re.Match[str]) -> str:
        file = folder / found[2]
        if not file.is_file():
            return found[0]
        return f"{found[1]}(data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode()})"

    return re.sub(r"(!\[[^\]]*\])\(([^():]+\.svg)\)", inside, text)


def summary(runs: Sequence[LessonRun]) -> str:
    """The table that a run prints, and what failed, in words."""
    from tabulate import tabulate

    table = [
        [
            run.label,
            run.cells,
            f"{sum(c.passed for c in run.checks)}/{sum(not c.pending for c in run.checks)}",
            f"{run.seconds:.1f}",
            "ok" if run.ok else "FAILED",
        ]
        for run in runs
    ]
    lines = [tabulate(table, headers=["notebook", "cells", "checks passed", "seconds", ""], disable_numparse=True)]
    for run in runs:
        if run.failure:
            lines.append(f"\n{run.label}: {run.failure}")
        lines += [f"\n{run.label}: check {c.name} failed: {c.message}" for c in run.failed_checks]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Without terminal colours, which have no place in XML or a log."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
