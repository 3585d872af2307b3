"""The commands that start, stop, run and ask; each further family has a module of its own."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import click

from labkit.cli.shared import cluster_option, emit, json_option, main, name_option, say


@main.command()
@name_option
@click.option("--idle", default=8.0, show_default=True, help="End after so many hours without use; 0 is never.")
@click.option("--until-pid", type=int, default=None, help="End when the process with this id ends.")
@json_option
def up(name: str, idle: float, until_pid: int | None, as_json: bool) -> None:
    """Start the embedded cluster (or find it running) and print the path of its kubeconfig."""
    from labkit.cluster.opening import embedded_lifecycle

    kubeconfig = embedded_lifecycle().up(name, idle_seconds=idle * 3600, until_pid=until_pid, narrate=say)
    say(f"For kubectl: export KUBECONFIG={kubeconfig}")
    emit({"name": name, "kubeconfig": str(kubeconfig)}, as_json, str(kubeconfig))


@main.command()
@name_option
@click.option("--purge", is_flag=True, help="Also forget its objects and certificates: the next start is empty.")
@json_option
def down(name: str, purge: bool, as_json: bool) -> None:
    """End the embedded cluster: exactly the processes that it started. Its objects stay for the next 'up'."""
    from labkit.cluster.opening import embedded_lifecycle

    ended = embedded_lifecycle().down(name, purge=purge, narrate=say)
    emit({"name": name, "ended": ended}, as_json, f"{ended} processes ended")


@main.command()
@click.option("--name", default=None, help="One cluster; without it, all of yours.")
@json_option
def status(name: str | None, as_json: bool) -> None:
    """Show which embedded clusters run, their memory (PSS) and their kubeconfig. Exit code 1 when none runs."""
    from tabulate import tabulate

    from labkit.cluster.opening import embedded_lifecycle

    lifecycle = embedded_lifecycle()
    found = [lifecycle.status(n) for n in ([name] if name else lifecycle.list_clusters())]
    rows = [
        [
            s.name,
            "running" if s.running else "down",
            f"{s.uptime_seconds / 60:.0f} min" if s.uptime_seconds is not None else "",
            s.processes,
            f"{s.memory_bytes / 2**20:.0f} MB",
            s.kubeconfig or "",
        ]
        for s in found
    ]
    headers = ["NAME", "STATE", "UP FOR", "PROCESSES", "MEMORY", "KUBECONFIG"]
    text = tabulate(rows, headers=headers, tablefmt="plain") if rows else "No embedded cluster. Start one: labkit up"
    emit([dataclasses.asdict(s) for s in found], as_json, text)
    if not any(s.running for s in found):
        raise SystemExit(1)


@main.command()
@click.argument("lessons", nargs=-1)
@click.option("--cluster", default=None, help="Run on this cluster instead of a fresh embedded one.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/run"), show_default=True)
@click.option("--progress/--no-progress", default=True, help="Show a progress bar per notebook.")
@click.option("--solutions", is_flag=True, help="Run the worked exercises of each lesson, too.")
@click.option("--jobs", type=click.IntRange(1, 16), default=1, show_default=True, help="So many notebooks at once.")
@json_option
def run(
    lessons: tuple[str, ...],
    cluster: str | None,
    output: Path,
    progress: bool,
    solutions: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Execute the lessons with papermill (all, or those named: 04) and report. Exit code 1 when one fails."""
    from labkit import runner
    from labkit.cluster.opening import open_cluster

    found = runner.find_lessons(Path.cwd(), lessons, solutions=solutions)
    if cluster is not None:  # said here in one sentence, and not by the first cell of each lesson
        open_cluster(cluster, narrate=say).close()
    runs = runner.run_lessons(found, output, cluster=cluster, progress=progress, jobs=jobs)
    result = [{**dataclasses.asdict(r), "ok": r.ok} for r in runs]
    emit(result, as_json, runner.summary(runs))
    say(f"Executed lessons: {output / 'index.html'}   JUnit: {output / 'junit.xml'}")
    if not runs or not all(r.ok for r in runs):
        raise SystemExit(1)


@main.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what this machine lacks for the lessons, and the command that mends it. Exit code 3 when something does."""
    from labkit.doctor import examine

    findings = examine()
    lines = []
    for finding in findings:
        mark = "ok     " if finding.ok else ("MISSING" if finding.needed else "absent ")
        lines.append(f"{mark}  {finding.subject}: {finding.seen}")
        if not finding.ok:
            lines.append(f"         {finding.mend}")
    emit([dataclasses.asdict(f) for f in findings], as_json, "\n".join(lines))
    if any(f.needed and not f.ok for f in findings):
        raise SystemExit(3)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("lesson", default="00")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def lab(lesson: str, options: tuple[str, ...]) -> None:
    """Open JupyterLab on a lesson. kubectl in its terminals speaks to the embedded cluster, which starts on demand.

    Further options are handed to JupyterLab: labkit lab 02 --no-browser --port 8899
    """
    from labkit import runner
    from labkit.cluster.opening import embedded_kubeconfig

    if lesson.startswith("-"):  # an option, and no lesson
        lesson, options = "00", (lesson, *options)
    root = Path.cwd()
    path = runner.find_lessons(root, [lesson])[0].absolute()
    own = [p for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    default = Path.home() / ".kube" / "config"
    own = own or ([str(default)] if default.exists() else [])
    embedded = embedded_kubeconfig()
    # A lesson needs no network: no question about news, no look for updates.
    config = [str(Path(__file__).parents[1] / "jupyter"), *os.environ.get("JUPYTER_CONFIG_PATH", "").split(os.pathsep)]
    # A service user may have no home; Jupyter does not start without one, or with these.
    homeless = (
        {} if os.access(Path.home(), os.W_OK) else runner.jupyter_directories(root.absolute() / "build" / "jupyter")
    )
    environment = {
        **os.environ,
        **{key: str(directory) for key, directory in homeless.items()},
        "KUBECONFIG": os.pathsep.join([*([str(embedded)] if embedded else []), *own]),
        "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, config)),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    as_root = ["--allow-root"] if os.getuid() == 0 else []  # containers often have no other user
    # The whole repository is in sight, not the notebooks alone: lessons point to manifests/.
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", *as_root]
    command += [f"--LabApp.default_url=/lab/tree/{path.relative_to(root)}", *options]
    os.execve(sys.executable, command, environment)


@main.command("proxy-status")
@click.argument("pod", required=False)
@click.option("-n", "--namespace", default=None, help="Namespace of a name that tells none.")
@cluster_option
@json_option
def proxy_status(pod: str | None, namespace: str | None, cluster: str, as_json: bool) -> None:
    """Show whether each proxy runs the newest configuration. Exit code 1 when one does not.

    With POD: what istiod wants it to run against what it runs, line by line.
    """
    from datetime import UTC, datetime

    import labkit
    from labkit.cluster.opening import require_running
    from labkit.observe.proxies import proxy_statuses, status_rows
    from labkit.views.tables import make_table

    require_running(cluster)
    with labkit.open(cluster, narrate=lambda _: None) as opened:
        if pod:
            from labkit.cli.words import qualified

            compared = opened.compare_proxy(qualified(pod, namespace))
            emit(compared.as_data(), as_json, str(compared))
            raise SystemExit(0 if compared.matches else 1)
        found = proxy_statuses(opened.cluster)
        emit(
            [dataclasses.asdict(one) for one in found], as_json, str(make_table(*status_rows(found, datetime.now(UTC))))
        )
        if not all(one.synced for one in found):
            raise SystemExit(1)


@main.group()
def mesh() -> None:
    """Install, remove and look at the mesh of a cluster."""


@mesh.command("install")
@cluster_option
@click.option("--namespace", default="istio-system", show_default=True, help="Root namespace: where istiod runs.")
@click.option("--revision", default="default", show_default=True, help="Revision, such as asm-1-24.")
@click.option("--gateway", is_flag=True, help="Install an ingress gateway, too.")
@json_option
def mesh_install(cluster: str, namespace: str, revision: str, gateway: bool, as_json: bool) -> None:
    """Install the mesh: CRDs, istiod, the injection webhook, the certificate authority."""
    import labkit

    with labkit.open(cluster, narrate=say) as opened:
        result = opened.install_mesh(namespace=namespace, revision=revision)
        if gateway:
            say(str(opened.install_gateway()))
        emit(dataclasses.asdict(opened.mesh_status()), as_json, str(result))


@mesh.command("uninstall")
@cluster_option
@json_option
def mesh_uninstall(cluster: str, as_json: bool) -> None:
    """Remove the mesh. Running sidecars keep their last configuration until their pods are restarted."""
    import labkit
    from labkit.cluster.opening import require_running

    require_running(cluster)
    with labkit.open(cluster, narrate=say) as opened:
        result = opened.uninstall_mesh()
        emit({"uninstalled": True}, as_json, str(result))


@mesh.command("status")
@cluster_option
@json_option
def mesh_status(cluster: str, as_json: bool) -> None:
    """Show whether a mesh is installed, where, and whether istiod is ready. Exit code 1 when it is not."""
    import labkit
    from labkit.cluster.opening import require_running

    require_running(cluster)
    with labkit.open(cluster, narrate=lambda _: None) as opened:
        found = opened.mesh_status()
        emit(dataclasses.asdict(found), as_json, str(found))
        if not found.ready:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
