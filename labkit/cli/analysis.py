"""What istioctl analyze and Kiali say of objects, on a cluster or on files."""

from __future__ import annotations

import json
from typing import Any

import click

from labkit.cli.shared import cluster_option, main, say
from labkit.cli.words import opened

_LEVELS = click.Choice(["Info", "Warning", "Error"], case_sensitive=False)


@main.command()
@click.argument("paths", nargs=-1)
@click.option(
    "--use-kube",
    type=bool,
    default=True,
    show_default=True,
    help="false: look at the files alone. true: at the cluster, as if the files were applied.",
)
@click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces: so it is without -n, too.")
@click.option("-n", "--namespace", default="", help="Only what is said of this namespace.")
@click.option("--tool", type=click.Choice(["istioctl", "kiali"]), default=None, help="The codes of one tool alone.")
@click.option("-S", "--suppress", multiple=True, help="IST0102, or 'IST0102=Namespace shop'. May be repeated.")
@click.option("--output-threshold", type=_LEVELS, default="Info", show_default=True, help="The least level to show.")
@click.option(
    "--failure-threshold", type=_LEVELS, default="Error", show_default=True, help="The least level to fail at."
)
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="PATH",
    help="The same as PATH with --use-kube=false: no cluster is asked.",
)
@click.option("--root-namespace", default="", help="Of files alone: where the mesh-wide policies stand.")
@click.option("-o", "--output", type=click.Choice(["log", "json", "yaml", "sarif"]), default="log", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
@cluster_option
def analyze(
    paths: tuple[str, ...],
    use_kube: bool,
    all_namespaces: bool,
    namespace: str,
    tool: str | None,
    suppress: tuple[str, ...],
    output_threshold: str,
    failure_threshold: str,
    sources: tuple[str, ...],
    root_namespace: str,
    output: str,
    as_json: bool,
    cluster: str,
) -> None:
    """Find what does not fit together, with the codes of istioctl (IST...) and Kiali (KIA...).

    PATHS are files, directories (at any depth) or - for standard input. Exit code 1 when something is as bad as the
    failure threshold.
    """
    from labkit.lab.analysis import analyze_files
    from labkit.policy.analysis import Level

    if all_namespaces and namespace:
        raise click.UsageError("Write either -A or -n, not both.")
    paths, use_kube = (*paths, *sources), use_kube and not sources
    if not use_kube and not paths:
        raise click.UsageError("Without a cluster there must be files: labkit analyze --from manifests/")
    asked: dict[str, Any] = {"namespace": namespace, "tool": tool or "", "suppress": suppress}
    if use_kube:
        with opened(cluster) as lab:
            found = lab.analyze(*paths, **asked)
    else:
        found = analyze_files(*paths, **asked, root_namespace=root_namespace)
    shown = found.of_level(Level[output_threshold.upper()])
    if output == "json" or as_json:
        click.echo(json.dumps(shown.as_data(), indent=2))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(shown.as_data(), sort_keys=False).rstrip())
    elif output == "sarif":
        click.echo(json.dumps(shown.sarif(), indent=2))
    elif shown.lines:
        click.echo("\n".join(shown.lines))
    say(shown.summary)
    if found.at_least(Level[failure_threshold.upper()]):
        raise SystemExit(1)
