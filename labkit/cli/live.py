"""The encryption map and the knobs that change it, from a shell."""

from __future__ import annotations

from pathlib import Path

import click

from labkit.cli.declared import Asked, asked_options
from labkit.cli.shared import cluster_option, emit, json_option, main
from labkit.cli.words import opened
from labkit.errors import InputError


@main.command("map")
@click.argument("namespaces", nargs=-1)
@click.option("--special", is_flag=True, help="Also the kubelet's probes and Prometheus' scrapes.")
@click.option("--counted", is_flag=True, help="Also every call that the proxies have counted since they were started.")
@click.option("--as-metrics-see", is_flag=True, help="Name no client that metrics call unknown. With --counted.")
@click.option("--layer", type=click.Choice(["both", "declared", "observed"]), default="both", show_default=True)
@click.option("--dot", is_flag=True, help="Print the map as Graphviz source.")
@click.option("--table", is_flag=True, help="Print an edge a line, with the reason.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the picture to a file: .svg or .png.")
@click.option("--dark", is_flag=True, help="On dark paper.")
@asked_options
@json_option
def encryption_map(
    namespaces: tuple[str, ...],
    special: bool,
    counted: bool,
    as_metrics_see: bool,
    layer: str,
    dot: bool,
    table: bool,
    output: Path | None,
    dark: bool,
    asked: Asked,
    as_json: bool,
) -> None:
    """Show who may speak to whom, and how: in words, as a table, as DOT, SVG or PNG. Changes nothing, sends nothing."""
    from labkit.views.encryption_map import COLUMNS, edge_rows

    if asked.sources and (counted or layer == "observed"):
        raise InputError(
            "Files have counted nothing.",
            meaning="--counted and --layer observed ask the proxies of a cluster.",
            next_step="Leave them out with --from, or leave out --from.",
        )
    of_cluster = {} if asked.sources else {"counted": counted, "resolve": not as_metrics_see}
    with asked.open() as lab:
        found = lab.map(*namespaces, special=special, **of_cluster).layer(layer)
    if output:
        found.save(output, dark=dark)
    keys = [column.lower().replace(" ", "_") for column in COLUMNS]
    rows = [dict(zip(keys, row, strict=True)) for row in edge_rows(found.model)]
    words = found.dot if dot else str(found.table) if table else str(found)
    emit({"edges": rows, "summary": found.model.summary()}, as_json, f"Written to {output}." if output else words)


@main.command("mode")
@click.argument("mode", type=click.Choice(["UNSET", "DISABLE", "PERMISSIVE", "STRICT"], case_sensitive=False))
@click.argument("namespace", required=False)
@click.option("--workload", help="One workload of the namespace.")
@click.option("--port", type=int, help="One container port of that workload.")
@cluster_option
@json_option
def mode(mode: str, namespace: str | None, workload: str | None, port: int | None, cluster: str, as_json: bool) -> None:
    """Set the mTLS mode of the mesh, or of a NAMESPACE, a workload, a port: in the policy that counts there."""
    with opened(cluster) as lab:
        done = lab.set_mtls_mode(mode.upper(), namespace, workload=workload, port=port)
    emit(
        {
            "what": done.what,
            "kubectl": list(done.kubectl),
            "manifest": done.manifest,
            "warnings": list(done.warnings),
        },
        as_json,
        f"{done}\n{done.manifest}",
    )
