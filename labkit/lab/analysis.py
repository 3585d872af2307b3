"""What istioctl analyze and Kiali's validations say, on a cluster, on files, or on a cluster with files applied."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from labkit.cluster import Cluster
from labkit.cluster.kinds import NAMESPACE
from labkit.cluster.manifests import Source, load_documents, looks_like_path
from labkit.cluster.trees import Place, Tree, read_tree
from labkit.errors import InputError, did_you_mean
from labkit.installers.fields import unknown_fields, unknown_kind
from labkit.observe.analyzed import merged, read_objects
from labkit.observe.declared_mesh import cluster_settings, file_settings
from labkit.policy.analysis import CODES, ISTIO, KIALI, Level, Message, analyze
from labkit.policy.analysis.messages import found as make_message
from labkit.policy.declared.mesh import key_of

if TYPE_CHECKING:
    from labkit.views.analysis import Analysis

TOOLS = (ISTIO, KIALI)
_LABEL = re.compile(r"[a-z0-9-]+")


class Analyses:
    """What Lab can say of objects that do not fit together.

    lab.analyze()                            what does not fit together, with the codes of istioctl (IST0101 ...) and
                                             Kiali (KIA0501 ...); lab.analyze("change.yaml"): as if it were applied;
                                             tool="istioctl" or "kiali", level="warning", namespace="shop",
                                             suppress=["IST0102"]; .errors .codes .table .sarif()
    """

    cluster: Cluster

    def analyze(
        self,
        *sources: Source,
        namespace: str = "",
        tool: str = "",
        level: str = "info",
        suppress: Iterable[str] = (),
    ) -> Analysis:
        """The messages about the cluster's objects, or about them with something applied, the worst first.

        `sources` are files and directories, or what `lab.apply` takes: YAML text, an object, a list of them.
        """
        try:
            tree = _read(sources)
        except InputError as error:
            names = [one for one in sources if isinstance(one, str) and _LABEL.fullmatch(one)]
            if not (known := [one for one in names if self.cluster.find(NAMESPACE, one)]):
                raise
            ask = f"Ask about the namespace: lab.analyze(namespace={known[0]!r})."
            raise InputError(error.what, next_step=ask) from None
        objects, secrets_known = read_objects(self.cluster, tree.objects)
        _known_namespace(namespace, objects)
        found = analyze(objects, cluster_settings(self.cluster), secrets_known=secrets_known)
        found = _with_unknown_fields(tree.objects, found)
        return make_analysis(found, tree, sources, namespace, tool, level, suppress)


def analyze_files(
    *sources: str | Path,
    namespace: str = "",
    tool: str = "",
    level: str = "info",
    suppress: Iterable[str] = (),
    root_namespace: str = "",
) -> Analysis:
    """The same without a cluster. The ingress gateway of Istio's default installation is taken for granted."""
    tree = read_tree(sources)
    return analyze_tree(tree, sources, root_namespace, namespace=namespace, tool=tool, level=level, suppress=suppress)


def analyze_tree(
    tree: Tree,
    sources: Sequence[Any] = (),
    root_namespace: str = "",
    *,
    namespace: str = "",
    tool: str = "",
    level: str = "info",
    suppress: Iterable[str] = (),
) -> Analysis:
    """The same for files that were read already."""
    objects = merged([], tree.objects)
    _known_namespace(namespace, objects)
    found = _with_unknown_fields(
        tree.objects, analyze(objects, file_settings(objects, root_namespace), from_files=True)
    )
    return make_analysis(found, tree, sources, namespace, tool, level, suppress, with_cluster=False)


def _known_namespace(namespace: str, objects: Iterable[Any]) -> None:
    """Raises InputError for a namespace in which there is nothing: of a name that is wrong nothing is ever found."""
    keys = [key_of(one) for one in objects]
    there = {home for _, home, _ in keys if home} | {name for kind, _, name in keys if kind == "Namespace"}
    if namespace and namespace not in there:
        raise InputError(
            f"There is nothing in a namespace {namespace!r}.",
            next_step=f"{did_you_mean(namespace, sorted(there))}Here: {', '.join(sorted(there)) or 'none'}.",
            namespace=namespace,
        )


def _with_unknown_fields(objects: Iterable[Any], found: Sequence[Message]) -> list[Message]:
    """With a message for each kind that Istio does not have, and for each field that its kind does not have: an API
    server refuses the whole object for it.
    """
    objects = list(objects)
    unknown = [
        make_message("IST0106", one, f'unknown field "{path}"', path=path)
        for one in objects
        for path in unknown_fields(one)
    ]
    unknown += [make_message("IST0106", one, wrong, path="kind") for one in objects if (wrong := unknown_kind(one))]
    return sorted([*unknown, *found], key=lambda one: (one.order, one.path))


def make_analysis(
    found: Sequence[Message],
    tree: Tree,
    sources: Sequence[Any],
    namespace: str,
    tool: str,
    level: str,
    suppress: Iterable[str],
    *,
    with_cluster: bool = True,
) -> Analysis:
    """The messages that are asked for."""
    from labkit.views.analysis import Analysis

    least, silent = _level(level), [_suppression(one) for one in suppress]
    if tool and tool not in TOOLS:
        raise InputError(f"{tool!r} is no tool whose codes are known.", next_step=f"Write {' or '.join(TOOLS)}.")
    wanted = tuple(
        one
        for one in found
        if one.level >= least
        and tool in ("", one.code.tool)
        and (not namespace or namespace in (one.namespace, one.name if one.kind == "Namespace" else ""))
        and not any(code in ("*", one.code.code) and _is_named(one, name) for code, name in silent)
    )

    def place_of(one: Message) -> Place | None:
        return tree.place_of(one.kind, one.namespace, one.name, one.path)

    names = " ".join(map(_shown, sources))
    flags = f"{f'-n {namespace}' if namespace else '-A'}{'' if with_cluster else ' --use-kube=false'}"
    command = f"istioctl analyze {flags}{f' {names}' if names else ''}"
    what = f"namespace: {namespace}" if namespace else ("all namespaces" if with_cluster else names or "the files")
    return Analysis(wanted, what, place_of, command)


def _read(sources: Iterable[Source]) -> Tree:
    """Files with their lines; of objects and of YAML text there are none."""
    paths = [one for one in sources if _is_path(one)]
    tree = read_tree(paths) if paths else Tree()
    tree.objects.extend(document.obj for one in sources if not _is_path(one) for document in load_documents(one))
    return tree


def _is_path(source: Source) -> TypeGuard[str | Path]:
    return isinstance(source, Path) or (isinstance(source, str) and (source == "-" or looks_like_path(source)))


def _shown(source: Any) -> str:
    return str(source) if _is_path(source) else "-"


def _level(word: str) -> Level:
    try:
        return Level[str(word).upper()]
    except KeyError:
        known = ", ".join(one.word for one in reversed(Level))
        raise InputError(f"{word!r} is no level.", next_step=f"Write one of {known}.") from None


def _suppression(written: str) -> tuple[str, str]:
    """`IST0102` or `IST0102=Namespace shop`, as istioctl's --suppress takes it."""
    code, _, name = str(written).partition("=")
    if code != "*" and code.upper() not in CODES:
        raise InputError(
            f"{code!r} is no code that an analysis finds.",
            next_step="Write one that it printed, such as IST0102, or IST0102=Namespace shop.",
        )
    return code.upper(), name


def _is_named(one: Message, name: str) -> bool:
    """Whether `Kind name.namespace`, with `*` for any part, means the object. No name means every object."""
    if not name:
        return True
    kind, _, rest = name.partition(" ")
    known = {one.origin.partition(" ")[2], f"{one.name}.{one.namespace}" if one.namespace else one.name}
    return kind in ("*", one.kind) and (rest in ("", "*") or rest in known)
