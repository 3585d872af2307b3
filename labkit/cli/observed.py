"""What the proxies observed: metrics, rates, who talks in plaintext."""

from __future__ import annotations

import json
from typing import Any

import click

from labkit.cli.shared import cluster_option, emit, json_option, main, say
from labkit.cli.words import opened

seconds_option = click.option("--seconds", type=float, default=0.0, help="Count for so long, instead of since ever.")
namespaces_argument = click.argument("namespaces", nargs=-1)


@main.command("metrics")
@namespaces_argument
@click.option("--by", "columns", default="", help="Group by these columns of the requests: service,response_code.")
@click.option("--security", is_flag=True, help="Group by connection_security_policy.")
@click.option("--success", is_flag=True, help="Edge by edge, how many requests did not fail.")
@click.option("--latency", is_flag=True, help="Edge by edge, p50, p90 and p99 in milliseconds.")
@seconds_option
@cluster_option
@json_option
def metrics(
    namespaces: tuple[str, ...],
    columns: str,
    security: bool,
    success: bool,
    latency: bool,
    seconds: float,
    cluster: str,
    as_json: bool,
) -> None:
    """Show what all proxies counted, or those of some namespaces: requests, and how they were protected."""
    with opened(cluster) as lab:
        found = lab.rates(*namespaces, seconds=seconds) if seconds else lab.metrics(*namespaces)
    if security or columns:
        _show(found, found.by(*(columns.split(",") if columns else ["connection_security_policy"])), as_json)
    elif success or latency:
        _show(found, found.success() if success else found.latency(), as_json)
    else:
        parts = {"requests": records(found.requests), "connections": records(found.connections)}
        emit({**parts, "seconds": found.seconds, "unanswered": dict(found.unanswered)}, as_json, str(found))


@main.command("top-plaintext")
@namespaces_argument
@click.option("--top", default=10, show_default=True, help="How many lines.")
@click.option("--from-logs", is_flag=True, help="Name the callers by the addresses in access logs.")
@click.option("--fail", is_flag=True, help="Exit code 1 when somebody does.")
@seconds_option
@cluster_option
@json_option
def top_plaintext(
    namespaces: tuple[str, ...], top: int, from_logs: bool, fail: bool, seconds: float, cluster: str, as_json: bool
) -> None:
    """Show who talks in plaintext to servers of the mesh, most first. 'unknown' has no proxy that could say who."""
    with opened(cluster) as lab:
        if from_logs:
            named = lab.plaintext_callers(*namespaces).head(top)
            emit(records(named), as_json, str(named) if len(named) else "No access log tells of plaintext.")
            raise SystemExit(1 if fail and len(named) else 0)
        found = lab.rates(*namespaces, seconds=seconds) if seconds else lab.metrics(*namespaces)
    frame = found.plaintext(top)
    if len(frame) or as_json:
        _show(found, frame, as_json)
    else:
        click.echo("\n".join([f"{found.title}: nobody talks in plaintext to a server of the mesh.", *found.notes()]))
    if fail and len(frame):
        raise SystemExit(1)


@main.command("refusals")
@namespaces_argument
@click.option("--fail", is_flag=True, help="Exit code 1 when a connection was refused.")
@cluster_option
@json_option
def refusals(namespaces: tuple[str, ...], fail: bool, cluster: str, as_json: bool) -> None:
    """Show the connections that proxies did not take, which no metric of Istio counts, and who tells of them."""
    with opened(cluster) as lab:
        found = lab.refusals(*namespaces)
    emit({"refusals": records(found.frame), "silent": dict(found.refusals.silent)}, as_json, str(found))
    if fail and len(found.frame):
        raise SystemExit(1)


def records(frame: Any) -> list[dict[str, Any]]:
    """A frame as plain data, one object per line."""
    found: list[dict[str, Any]] = json.loads(frame.to_json(orient="records"))
    return found


def _show(found: Any, frame: Any, as_json: bool) -> None:
    emit(records(frame), as_json, "\n\n".join([found.title, str(frame), *found.notes()]))


@main.group()
def prometheus() -> None:
    """Ask the cluster's Prometheus, or install one beside istiod."""


@prometheus.command("install")
@cluster_option
@json_option
def prometheus_install(cluster: str, as_json: bool) -> None:
    """Start a Prometheus beside istiod, with the jobs of Istio's add-on."""
    with opened(cluster) as lab:
        done = lab.install_prometheus()
    emit({"installed": True, "changes": list(done.lines)}, as_json, str(done))


@prometheus.command("uninstall")
@cluster_option
@json_option
def prometheus_uninstall(cluster: str, as_json: bool) -> None:
    """Remove it, and what it has stored."""
    with opened(cluster) as lab:
        done = lab.uninstall_prometheus()
    emit({"uninstalled": True, "changes": list(done.lines)}, as_json, str(done))


@prometheus.command("query")
@click.argument("promql")
@click.option("--minutes", type=float, default=0.0, help="Over so many minutes, instead of now.")
@click.option("--step", type=float, default=None, help="Seconds between two points.")
@click.option("--where", default="", help="namespace/service:port; without it, it is found.")
@cluster_option
@json_option
def prometheus_query(promql: str, minutes: float, step: float | None, where: str, cluster: str, as_json: bool) -> None:
    """Ask it in PromQL."""
    with opened(cluster) as lab:
        asked = lab.prometheus(where)
        found = asked.range(promql, minutes=minutes, step=step) if minutes else asked.query(promql)
    emit(records(found), as_json, str(found) if len(found) else "No series answers.")


@prometheus.command("targets")
@click.option("--where", default="", help="namespace/service:port; without it, it is found.")
@cluster_option
@json_option
def prometheus_targets(where: str, cluster: str, as_json: bool) -> None:
    """Show whom it scrapes. Exit code 1 when one of them cannot be."""
    with opened(cluster) as lab:
        found = lab.prometheus(where).targets()
    emit(records(found), as_json, str(found))
    if (found["health"] == "down").any():
        raise SystemExit(1)


@main.command("dashboard")
@click.argument("kind", type=click.Choice(["mesh", "service", "workload", "control-plane", "wasm"]))
@click.argument("name", default="")
@click.option("--save", "path", default="", help="Write a picture: .png, .svg or .pdf.")
@click.option("--dark", is_flag=True, help="On dark paper.")
@click.option("--promql", is_flag=True, help="Only print what is asked, in PromQL; nobody is asked.")
@click.option("--by", default="", help="'proxies' or 'prometheus'; without it, Prometheus if there is one.")
@click.option("--minutes", default=10.0, show_default=True, help="How far back Prometheus is asked.")
@click.option("--seconds", default=10.0, show_default=True, help="How long our own readings take.")
@cluster_option
@json_option
def dashboard(
    kind: str,
    name: str,
    path: str,
    dark: bool,
    promql: bool,
    by: str,
    minutes: float,
    seconds: float,
    cluster: str,
    as_json: bool,
) -> None:
    """Answer what Istio's Grafana dashboards answer. NAME is namespace/name of a service or workload."""
    about = [name] if kind in ("service", "workload") else []
    if about == [""]:
        raise click.UsageError(f"Name the {kind}: labkit dashboard {kind} shop/server")
    if promql:
        from labkit.views.dashboards import DASHBOARDS

        queries = DASHBOARDS[kind](*about).queries()
        text = "\n".join(f"# {title}\n" + "\n".join(asked) + "\n" for title, asked in queries.items())
        emit(queries, as_json, text.rstrip())
        return
    with opened(cluster) as lab:
        found = getattr(lab.dashboards, kind.replace("-", "_"))(*about, by=by, minutes=minutes, seconds=seconds)
    if path:
        say(f"Picture: {found.save(path, dark=dark)}")
    emit({title: records(frame) for title, frame in found.frames.items()}, as_json, str(found))
