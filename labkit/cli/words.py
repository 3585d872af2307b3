"""What istioctl says of a proxy: proxy-config, proxy-log, describe."""

from __future__ import annotations

import json
from typing import Any

import click

from labkit.cli.shared import F, cluster_option, emit, json_option, main

_TABLE = click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True
)
_SHORT = click.option("-o", "--output", type=click.Choice(["short", "json"]), default="short", show_default=True)
_JSON = click.option("--json", "output", flag_value="json", help="The same as -o json.")


def output_option(command: F) -> F:
    """istioctl's `-o`, and `--json` as everywhere else."""
    return _TABLE(_JSON(command))


namespace_option = click.option("-n", "--namespace", default=None, help="Namespace of a name that tells none.")


@main.command("proxy-config")
@click.argument("kind")
@click.argument("pod")
@namespace_option
@click.option("--port", type=int, default=0, help="Only this port.")
@click.option("--fqdn", default="", help="clusters: part of the service's full name.")
@click.option("--direction", default="", help="listeners, clusters: inbound or outbound.")
@click.option("--subset", default="", help="clusters: only this subset.")
@click.option("--address", default="", help="listeners, endpoints: only this address.")
@click.option("--type", "type_", default="", help="listeners: HTTP, TCP or HTTP+TCP.")
@click.option("--name", default="", help="routes, secrets: only this name.")
@click.option("--status", default="", help="endpoints: HEALTHY, UNHEALTHY ...")
@click.option("--envoy-cluster", default="", help="endpoints: only those of this Envoy cluster.")
@output_option
@cluster_option
def proxy_config(kind: str, pod: str, namespace: str | None, output: str, cluster: str, **filters: Any) -> None:
    """Show what a pod's proxy runs.

    KIND is listeners, clusters, routes, endpoints, secrets, bootstrap or all. POD is a pod or a Deployment:
    shop/server, server.shop, deploy/server -n shop.
    """
    filters["type"], filters["cluster"] = filters.pop("type_"), filters.pop("envoy_cluster")
    with opened(cluster) as lab:
        found = lab.proxy_config(kind, qualified(pod, namespace), **filters)
    if output == "table":
        nothing = f"{found.pod} runs nothing like that." if not len(found) else ""
        click.echo(nothing or str(found))
    else:
        click.echo(found.json() if output == "json" else found.yaml())


class DescribeGroup(click.Group):
    """Says what is missing when somebody leaves out `pod` or `service`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command of the first argument."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            raise click.UsageError(
                f"{args[0]!r} is no kind of thing that can be described. Write 'pod' or 'service' before its name: "
                f"labkit describe pod {args[-1]}",
                ctx,
            ) from None


@main.group(cls=DescribeGroup)
def describe() -> None:
    """Describe a pod or a Service with all that the mesh does with it, as `istioctl x describe` does."""


def describe_options(function: F) -> F:
    """What both commands take."""
    for option in (cluster_option, json_option, namespace_option):
        function = option(function)
    return function


@describe.command("pod")
@click.argument("pod")
@describe_options
@click.option("--ignore-unmeshed", "--ignoreUnmeshed", is_flag=True, help="Say nothing of a missing sidecar.")
def describe_pod(pod: str, namespace: str | None, as_json: bool, cluster: str, ignore_unmeshed: bool) -> None:
    """A pod: effective mTLS mode, the policies that apply, rules, routes and gateways, and what is wrong.

    POD is a pod or a Deployment: shop/server, server.shop, deploy/server -n shop.
    """
    with opened(cluster) as lab:
        found = lab.describe(qualified(pod, namespace), home=namespace or "default", ignore_unmeshed=ignore_unmeshed)
    emit(found.as_data(), as_json, str(found))


@describe.command("service")
@click.argument("service")
@describe_options
def describe_service(service: str, namespace: str | None, as_json: bool, cluster: str) -> None:
    """A Service: ports and protocols, rules, routes, gateways. SERVICE is shop/server, or server -n shop."""
    from labkit.observe.references import split_kind

    with opened(cluster) as lab:
        found = lab.describe(f"svc/{qualified(split_kind(service)[1], namespace)}", home=namespace or "default")
    emit(found.as_data(), as_json, str(found))


describe.add_command(describe_pod, "po")
describe.add_command(describe_service, "svc")


@main.command("proxy-log")
@click.argument("pod")
@namespace_option
@click.option("--level", default="", help="debug for all loggers, or rbac:debug,http:info.")
@click.option("-r", "--reset", is_flag=True, help="Back to the levels that the proxy was started with.")
@_SHORT
@_JSON
@cluster_option
def proxy_log(pod: str, namespace: str | None, level: str, reset: bool, output: str, cluster: str) -> None:
    """Show or set the levels of a proxy's loggers. What they write: kubectl logs POD -c istio-proxy.

    For mTLS: upstream:debug (which socket is chosen for an endpoint, when it is learned), connection:debug
    (handshakes), rbac:debug (who was let in, and by which rule).
    """
    with opened(cluster) as lab:
        found = lab.proxy_log(qualified(pod, namespace), level, reset=reset)
    emit_data({"pod": found.pod, "loggers": found.levels}, output, str(found))


def opened(cluster: str) -> Any:
    """A lab on a cluster that runs already: asking starts nothing."""
    import labkit
    from labkit.cluster.opening import require_running

    require_running(cluster)
    return labkit.open(cluster, narrate=lambda _: None)


def qualified(name: str, namespace: str | None) -> str:
    """`-n shop server` as `shop/server`; what names its namespace itself stays as it is."""
    from labkit.observe.references import split_kind

    kind, rest = split_kind(name)
    if namespace is None or "/" in rest:
        return name
    return f"{kind}/{namespace}/{rest}" if kind else f"{namespace}/{rest}"


def emit_data(value: Any, output: str, text: str) -> None:
    """A result as text, JSON or YAML."""
    if output == "json":
        click.echo(json.dumps(value, indent=2, default=str))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False).rstrip())
    else:
        click.echo(text)
