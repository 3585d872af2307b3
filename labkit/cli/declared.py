"""What the objects declare: explain, preview, on a cluster or on files alone."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from labkit.cli.shared import cluster_option, emit, json_option, main, say, worded
from labkit.cli.words import opened
from labkit.errors import InputError

_REMARKS = 6

from_option = click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="PATH",
    help="Ask these manifests (a file, a directory, - for standard input) and no cluster. May be repeated.",
)
root_option = click.option("--root-namespace", default="", help="With --from: where the mesh-wide policies stand.")
traffic_option = click.option(
    "--traffic",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help='Requests per minute by edge, as JSON: {"shop/client -> shop/server:8080": 120}.',
)


observed_option = click.option(
    "--observed", is_flag=True, help="Take the traffic that the cluster's proxies counted since they were started."
)


def seen_traffic(lab: Any, path: Path | None, observed: bool) -> Any:
    """Traffic from a file, from the proxies, or none."""
    if not observed:
        return read_json(path)
    if path is not None or not hasattr(lab, "metrics"):
        raise InputError(
            "There is one source of traffic.",
            meaning="--observed asks the proxies of a cluster; files have none.",
            next_step="Give --traffic FILE with --from, and --observed on a cluster.",
        )
    return lab.metrics()


@dataclass(frozen=True)
class Asked:
    """Who is asked: these files, or a cluster that runs already."""

    sources: tuple[str, ...]
    root_namespace: str
    cluster: str

    def open(self) -> Any:
        """Who answers. A context manager."""
        import contextlib

        from labkit.lab.declared import Files

        if not self.sources:
            return opened(self.cluster)
        files = Files(*self.sources, root_namespace=self.root_namespace)
        remarks = [f"Passed over: {one}" for one in files.tree.skipped] + [f"Note: {one}." for one in files.tree.notes]
        for one in remarks[:_REMARKS]:
            say(one)
        if len(remarks) > _REMARKS:
            say(f"And {len(remarks) - _REMARKS} more remarks like these.")
        return contextlib.nullcontext(files)


def asked_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--from, --root-namespace and --cluster, which the command gets as one parameter: `asked`."""

    @functools.wraps(command)
    def called(*, sources: tuple[str, ...], root_namespace: str, cluster: str, **others: Any) -> Any:
        return command(asked=Asked(sources, root_namespace, cluster), **others)

    return from_option(root_option(cluster_option(called)))


def read_json(path: Path | None) -> Any:
    """The content of a JSON file; None without one."""
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not JSON: {error}.", next_step="Correct it.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no mapping.", next_step='Write {"shop/client -> shop/server:8080": 120}.')
    return found


def read_yaml(path: Path) -> Any:
    """The content of a YAML file."""
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}", next_step="Correct it.") from error


@main.command()
@click.argument("client", required=False)
@click.argument("server", required=False)
@click.argument("port", required=False, default="0")
@click.option("--all", "everything", is_flag=True, help="All pairs, as a table.")
@click.option("-n", "--namespace", "namespaces", multiple=True, help="With --all: only edges of this namespace.")
@click.option("--only", default=None, help="With --all: only mtls, plaintext, refused, tls or unknown.")
@click.option("--request", default=None, help="What the application sends: http, tcp or tls.")
@asked_options
@json_option
def explain(
    client: str | None,
    server: str | None,
    port: str,
    everything: bool,
    namespaces: tuple[str, ...],
    only: str | None,
    request: str | None,
    asked: Asked,
    as_json: bool,
) -> None:
    """Say what the policies declare of a call: mTLS, plaintext or refused, and which object decides by which rule.

    CLIENT is a workload (shop/client), SERVER a Service (shop/server, server.shop) or a URL, PORT the
    Service's, by number or name.
    """
    if everything == bool(client) or (client and not server):
        raise InputError(
            "A call has a client and a server.",
            next_step="Write 'labkit explain shop/client shop/server 8080', or --all for all pairs.",
        )
    with asked.open() as lab:
        if client and server:
            one = lab.explain(client, server, port, request=request)
            emit(one.as_dict(), as_json, str(one))
            return
        edges = lab.edges(*namespaces, only=only)
        mesh = lab.declared_mesh() if not edges else None
    from labkit.views.declared import NO_CALLS, edge_dict, edge_text

    nothing = NO_CALLS + "." if mesh else ""
    if mesh and mesh.clients and mesh.servers:
        nothing = f"No such edge among {len(mesh.clients)} workloads and {len(mesh.servers)} ports."
    emit([edge_dict(one) for one in edges], as_json, edge_text(edges) if edges else nothing)


def format_options(command: Any) -> Any:
    """`--format`, and where to."""
    command = click.option(
        "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write it to this file."
    )(command)
    forms = click.Choice(["text", "json", "sarif", "junit"])
    command = click.option("--json", "form", flag_value="json", help="The same as --format json.")(command)
    return click.option("--format", "form", type=forms, default="text", show_default=True)(command)


def put(form: str, output: Path | None, name: str, shown: Any, verification: Any, *trees: Any) -> None:
    """A result in the form that was asked for, to a file or to standard output. `trees` tell where objects stand."""
    from labkit.views.ci import to_junit, to_sarif

    if form == "sarif":
        places = [tree.at for tree in trees if tree]
        sarif = to_sarif(verification, lambda key: next((at for place in places if (at := place(key))), None))
        text = json.dumps(sarif, indent=2)
    elif form == "junit":
        text = to_junit(f"labkit {name}", verification)
    else:
        text = worded(shown.as_dict() if form == "json" else str(shown), form == "json")
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error}.", next_step="Give another --output.") from error
    say(str(shown).splitlines()[0])


@main.command()
@click.option(
    "--forbid", multiple=True, default=("plaintext",), show_default=True, help="plaintext, refused, unknown ..."
)
@click.option(
    "--expect",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="A YAML list of {client, server, port, verdict}.",
)
@click.option("--exempt", multiple=True, metavar="PATTERN", help="Clients, servers or 'client -> server' to let be.")
@click.option("-n", "--namespace", "namespaces", multiple=True, help="Only calls into this namespace.")
@format_options
@asked_options
def verify(
    forbid: tuple[str, ...],
    expect: Path | None,
    exempt: tuple[str, ...],
    namespaces: tuple[str, ...],
    form: str,
    output: Path | None,
    asked: Asked,
) -> None:
    """Check what is declared, as a step of a build: no call in plaintext, unless told otherwise.

    Exit code 1 when something is found. --forbid may be repeated ('none' forbids nothing), --expect names calls that
    are to be so. For code scanning: labkit verify --from manifests --format sarif -o mtls.sarif
    """
    wanted = [one for one in forbid if one != "none"]
    with asked.open() as lab:
        found = lab.verify(
            forbid=wanted, expect=read_yaml(expect) if expect else (), exempt=exempt, namespaces=namespaces
        )
        put(form, output, "verify", found, found.verification, getattr(lab, "tree", None))
    if not found.passed:
        raise SystemExit(1)


@main.command()
@click.option("-f", "--filename", "files", multiple=True, metavar="PATH", help="What would be applied.")
@click.option("--delete", "gone", multiple=True, metavar="PATH|KIND/NAME", help="What would be deleted.")
@click.option(
    "--restart", multiple=True, metavar="NAMESPACE/NAME", help="Whose pods are made anew; NAMESPACE/* for all."
)
@click.option("-n", "--namespace", default=None, help="Namespace of what names none.")
@traffic_option
@observed_option
@format_options
@asked_options
def preview(
    files: tuple[str, ...],
    gone: tuple[str, ...],
    restart: tuple[str, ...],
    namespace: str | None,
    traffic: Path | None,
    observed: bool,
    form: str,
    output: Path | None,
    asked: Asked,
) -> None:
    """Show what a change would do to every edge, before it is applied. Exit code 1 when a client would break."""
    with asked.open() as lab:
        found = lab.preview(
            list(files) or None,
            delete=list(gone) or False,
            restart=restart,
            traffic=seen_traffic(lab, traffic, observed),
            namespace=namespace,
        )
        from labkit.cluster.trees import read_tree

        applied = read_tree(files, namespace or "") if files and form == "sarif" else None
        put(form, output, "preview", found, found.verification, applied, getattr(lab, "tree", None))
    if not found.safe:
        raise SystemExit(1)


@main.command()
@traffic_option
@observed_option
@click.option(
    "--write",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    metavar="DIRECTORY",
    help="Also write what the steps apply as numbered manifests.",
)
@asked_options
@json_option
def migrate(
    traffic: Path | None,
    observed: bool,
    write: Path | None,
    asked: Asked,
    as_json: bool,
) -> None:
    """Plan the way of the whole mesh to STRICT: whom to inject first, which rules conflict, what is safe now.

    Every step is tried on the objects first. Exit code 1 when somebody must decide something on the way.
    """
    with asked.open() as lab:
        found = lab.migrate(seen_traffic(lab, traffic, observed))
    emit(found.as_dict(), as_json, str(found))
    if write is not None:
        _write_manifests(write, found.manifests())
    if not found.plan.complete:
        raise SystemExit(1)


def _write_manifests(directory: Path, manifests: dict[str, list[dict[str, Any]]]) -> None:
    import yaml

    try:
        directory.mkdir(parents=True, exist_ok=True)
        stale = sorted({one.name for one in directory.glob("[0-9][0-9]-*.yaml")} - {*manifests})
        if stale:  # 'kubectl apply -f' of the directory would take the steps of both plans
            more = f" and {len(stale) - 4} more" if len(stale) > 4 else ""
            raise InputError(
                f"{directory} holds steps of another plan: {', '.join(stale[:4])}{more}.",
                meaning="Nothing was written: applied together, two plans would undo each other.",
                next_step="Remove these files, or give another directory.",
            )
        for name, objects in manifests.items():
            (directory / name).write_text(yaml.safe_dump_all(objects, sort_keys=False), encoding="utf-8")
            say(f"Wrote {directory / name}")
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error}.", next_step="Give another directory.") from error


@main.command()
@click.option("--seconds", type=float, default=None, help="Look at what the proxies count within so many seconds.")
@cluster_option
@json_option
def disagreements(seconds: float | None, cluster: str, as_json: bool) -> None:
    """Show calls that the proxies saw otherwise than they are declared, and the likeliest cause. Exit code 1 if any."""
    with opened(cluster) as lab:
        found = lab.disagreements(seconds)
    emit(found.as_dict(), as_json, str(found))
    if found:
        raise SystemExit(1)
