"""What is presented, and how long it lives."""

from __future__ import annotations

import click

from labkit.cli.shared import cluster_option, emit, json_option, main, say
from labkit.cli.words import namespace_option, opened, qualified


@main.command()
@click.option("-n", "--namespace", "namespaces", multiple=True, help="Only this namespace. May be repeated.")
@click.option("--warn-before", default="7d", show_default=True, help="Warn of what lives no longer: 36h, 7d.")
@json_option
@cluster_option
def certificates(namespaces: tuple[str, ...], warn_before: str, as_json: bool, cluster: str) -> None:
    """Show how long the mesh's certificates still live, as the proxies hold them. Exit code 1 for a warning.

    Of workloads' certificates, which live a day and are replaced at half time, it warns when that is overdue.
    """
    with opened(cluster) as lab:
        found = lab.certificates(*namespaces, warn_before=warn_before)
    emit(found.as_data(), as_json, str(found.table) if len(found) else found.summary)
    if len(found):
        say(found.summary)
    if found.warnings:
        raise SystemExit(1)


@main.command()
@click.argument("workload")
@click.argument("port", type=int, default=0)
@namespace_option
@click.option("--server-name", default="", help="SNI, for a gateway; without it, the first host of its Gateways.")
@click.option("--text", is_flag=True, help="As openssl x509 -text shows it.")
@click.option("--pem", is_flag=True, help="The chain as PEM.")
@json_option
@cluster_option
def certificate(
    workload: str,
    port: int,
    namespace: str | None,
    server_name: str,
    text: bool,
    pem: bool,
    as_json: bool,
    cluster: str,
) -> None:
    """Show what a workload or a gateway presents at a port right now. Exit code 1 when it presents nothing."""
    with opened(cluster) as lab:
        found = lab.certificate(qualified(workload, namespace), port, server_name=server_name)
    if text:
        shown = found.text
        click.echo(shown.text)
        say(f"$ {shown.path}")
    elif pem:
        click.echo(found.pem.rstrip())
    else:
        emit(found.as_data(), as_json, str(found))
        say(f"$ {found.found.command}")
    if found.failure:
        if pem:
            say(f"Nothing was presented: {found.failure}.")
        raise SystemExit(1)
