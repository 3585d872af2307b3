"""The settings of the mesh from a shell, in files and `--set` as istioctl and Helm take them."""

from __future__ import annotations

import click

from labkit.cli.commands import mesh
from labkit.cli.shared import cluster_option, emit, json_option, main
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


@main.command("platform")
@click.argument("name")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="resource_group=shop")
@click.option("--run", "number", type=int, default=0, help="Run the command of this number.")
@json_option
def platform(name: str, settings: tuple[str, ...], number: int, as_json: bool) -> None:
    """Print what AKS, EKS, kind, Helm, istioctl or Terraform take, filled in: aks, aks-images, eks, helm, ..."""
    from labkit.lab.platforms import show_platform

    given = {key: value for key, _, value in (one.partition("=") for one in settings)}
    shown = show_platform(name, run=number, **given)
    commands = [{"what": one.what, "line": one.line} for one in shown.recipe.commands]
    emit({"commands": commands, "state": shown.state, "said": shown.said}, as_json, str(shown))
    if shown.state in ("refused", "failed"):
        raise SystemExit(1)
