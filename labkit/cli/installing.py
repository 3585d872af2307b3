"""The settings of the mesh from a shell, in files and `--set` as istioctl and Helm take them."""

from __future__ import annotations

import click

from labkit.cli.commands import mesh
from labkit.cli.shared import cluster_option, emit, json_option
from labkit.cli.words import opened


@mesh.command("configure")
@click.option("-f", "--values", "files", multiple=True, metavar="FILE", help="An IstioOperator or Helm's values.")
@click.option("--set", "assignments", multiple=True, metavar="PATH=VALUE", help="meshConfig.enableAutoMtls=false")
@cluster_option
@json_option
def mesh_configure(files: tuple[str, ...], assignments: tuple[str, ...], cluster: str, as_json: bool) -> None:
    """Install the mesh with these settings, or give them to the mesh that is there. The rest gets its default."""
    with opened(cluster) as lab:
        done = lab.configure_mesh(files, set=assignments)
        emit({"changes": list(done.lines), "warnings": list(done.warnings)}, as_json, str(done))


@mesh.command("config")
@cluster_option
@json_option
def mesh_config(cluster: str, as_json: bool) -> None:
    """Show the settings of the mesh: what the ConfigMap istio says."""
    import yaml

    with opened(cluster) as lab:
        found = lab.mesh_config()
        emit(found, as_json, yaml.safe_dump(found, sort_keys=True).rstrip())
