"""The course from a shell: worlds, steps, checks, drills and progress."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from labkit.cli.shared import cluster_option, emit, json_option, main, say

mesh_options = (
    click.option("--mesh-namespace", default="istio-system", show_default=True, help="Where istiod runs."),
    click.option("--revision", default="default", show_default=True, help="The mesh's revision, such as asm-1-24."),
)


def _with_mesh(command: Any) -> Any:
    for option in mesh_options:
        command = option(command)
    return command


def _open(cluster: str, *, lesson: str = "", drill: str = "") -> Any:
    """A lab, on a cluster that is started if need be; not before the lesson or the drill is known."""
    import labkit
    from labkit.course import find_lesson
    from labkit.drills import find_drill

    if lesson:
        find_lesson(lesson)
    if drill:
        find_drill(drill)
    return labkit.open(cluster, narrate=say)


@main.command()
@click.argument("lesson")
@_with_mesh
@cluster_option
@json_option
def world(lesson: str, mesh_namespace: str, revision: str, cluster: str, as_json: bool) -> None:
    """Bring the cluster to what a lesson starts from: labkit world 05."""
    with _open(cluster, lesson=lesson) as lab:
        done = lab.world(lesson, mesh_namespace=mesh_namespace, revision=revision)
        emit(dataclasses.asdict(done), as_json, str(done))


@main.command()
@click.argument("lesson")
@click.option("--step", type=int, default=None, help="Stop after this step; without it, do all of them.")
@cluster_option
@json_option
def solve(lesson: str, step: int | None, cluster: str, as_json: bool) -> None:
    """Do a lesson's steps for real: labkit solve 05 --step 3. Exit code 1 when one did not take effect."""
    with _open(cluster, lesson=lesson) as lab:
        done = lab.solve(lesson, step=step)
        emit(dataclasses.asdict(done), as_json, str(done))
        if done.warnings:
            raise SystemExit(1)


@main.command()
@click.argument("lesson")
@cluster_option
@json_option
def reset(lesson: str, cluster: str, as_json: bool) -> None:
    """Bring the cluster back to where a lesson starts."""
    with _open(cluster, lesson=lesson) as lab:
        done = lab.reset(lesson)
        emit(dataclasses.asdict(done), as_json, str(done))


@main.command()
@click.argument("name", required=False)
@cluster_option
@json_option
def check(name: str | None, cluster: str, as_json: bool) -> None:
    """Judge a check (04-strict-declared) or a step (04.2); without a name, list them. Exit code 1 when one fails."""
    from labkit.checks import CHECKS, CheckResults
    from labkit.cluster.opening import require_running

    if name is None:
        rows = [{"name": one.name, "evidence": one.takes} for one in CHECKS.values()]
        emit(rows, as_json, "\n".join(f"{row['name']:28} {row['evidence']}" for row in rows))
        return
    require_running(cluster)
    with _open(cluster) as lab:
        found = lab.check(name)
        results = found.results if isinstance(found, CheckResults) else (found,)
        emit([result.as_row() for result in results], as_json, str(found))
        if not all(results):
            raise SystemExit(1)


@main.command()
@click.option("--forget", is_flag=True, help="Forget all progress.")
@json_option
def progress(forget: bool, as_json: bool) -> None:
    """Show how far you have come, lesson by lesson."""
    from labkit.course import progress as memory
    from labkit.lab.course import show_progress

    if forget:
        memory.forget()
    shown = show_progress()
    emit([dataclasses.asdict(row) for row in shown.rows], as_json, str(shown))


@main.group()
def drill() -> None:
    """Broken meshes to practise on."""


@drill.command("list")
@json_option
def drill_list(as_json: bool) -> None:
    """List the drills."""
    from labkit.drills import drills

    rows = [{"name": one.name, "title": one.title} for one in drills().values()]
    emit(rows, as_json, "\n".join(f"{row['name']:28} {row['title']}" for row in rows))


@drill.command("start")
@click.argument("name")
@cluster_option
@json_option
def drill_start(name: str, cluster: str, as_json: bool) -> None:
    """Break the mesh, and say what is reported."""
    with _open(cluster, drill=name) as lab:
        sheet = lab.drill(name)
        text = str(sheet).replace("lab.check_drill()", f"labkit drill check {name}")
        emit(dataclasses.asdict(sheet), as_json, text)


@drill.command("check")
@click.argument("name")
@cluster_option
@json_option
def drill_check(name: str, cluster: str, as_json: bool) -> None:
    """Say whether a drill is healed. Exit code 1 when it is not."""
    with _open(cluster, drill=name) as lab:
        result = lab.check_drill(name)
        emit(dataclasses.asdict(result), as_json, str(result))
        if not result:
            raise SystemExit(1)
