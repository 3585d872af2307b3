"""What an error tells a learner to do next in a notebook, as the command that does the same from a shell.

The rooms word their hints once, as verbs of `lab`. On the command line nobody has a `lab`: `Look at lab.pods()`
becomes `Look at 'kubectl get pods -A'`. Verbs that no command has (minting, visiting) stay as they are.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_CALL = re.compile(r"\b(?:lab|labkit)\.([a-z_]+(?:\.[a-z_]+)*)\(")
_GOES_ON = re.compile(r"[.\[]\w")

Arguments = Sequence[Any]
Options = Mapping[str, Any]


def as_commands(text: str, cluster: str = "embedded") -> str:
    """The text with verbs of `lab` as commands for `cluster`; what is no such verb stays."""
    parts, place = [], 0
    for match in _CALL.finditer(text):
        start, end = match.start(), _closing(text, match.end())
        if start < place or end is None:
            continue
        command = None if _GOES_ON.match(text, end) else _command(match[1], text[start:end], cluster)
        if command is None:
            command = text[start:end]
        elif text[start - 1 : start] not in ("'", "`"):
            end = _after_the_same(text, end, _command(match[1], text[start:end], "embedded") or command)
            command = f"'{command}'"
        parts += [text[place:start], command]
        place = end
    return "".join([*parts, text[place:]])


def in_data(value: Any, cluster: str = "embedded") -> Any:
    """The same for every text within plain data."""
    if isinstance(value, str):
        return as_commands(value, cluster)
    if isinstance(value, Mapping):
        return {key: in_data(one, cluster) for key, one in value.items()}
    return [in_data(one, cluster) for one in value] if isinstance(value, list | tuple) else value


def _after_the_same(text: str, end: int, command: str) -> int:
    """Behind `, or 'labkit mesh install'`, where a hint for notebooks names the command already."""
    said = re.compile(rf", or ('?){re.escape(command)}\1").match(text, end)
    return said.end() if said else end


def _closing(text: str, start: int) -> int | None:
    depth = 1
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if not depth:
            return place + 1
    return None


def _command(verb: str, call: str, cluster: str) -> str | None:
    maker = COMMANDS.get(verb)
    try:
        parsed = ast.parse(call, mode="eval").body
    except SyntaxError:
        return None
    if maker is None or not isinstance(parsed, ast.Call):
        return None
    words = maker([_value(one) for one in parsed.args], {one.arg or "": _value(one.value) for one in parsed.keywords})
    if words is None:
        return None
    line = " ".join(words)
    if cluster == "embedded":
        return line
    if line.startswith("labkit "):
        return f"{line} --cluster {shlex.quote(cluster)}"
    outside = line.startswith("kubectl ") and not cluster.startswith("embedded:")
    return f"kubectl --context {shlex.quote(cluster)} {line.removeprefix('kubectl ')}" if outside else line


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node).upper() if isinstance(node, ast.Name) else ...


def _word(value: Any, blank: str) -> str:
    return blank if value is ... or value is None else shlex.quote(str(value))


def _at(given: Arguments, place: int, blank: str = "NAMESPACE/NAME") -> str:
    return _word(given[place], blank) if len(given) > place else blank


def _halves(reference: str) -> tuple[str, str]:
    namespace, slash, name = reference.rpartition("/")
    return (namespace, name) if slash else ("default", name)


def _fixed(*words: str) -> Callable[[Arguments, Options], list[str]]:
    return lambda _given, _options: list(words)


def _listing(kind: str, *more: str) -> Callable[[Arguments, Options], list[str]]:
    def make(given: Arguments, options: Options) -> list[str]:
        return ["kubectl", "get", kind, *(["-n", _at(given, 0)] if given else ["-A"]), *more]

    return make


def _of_workload(*words: str, after: str = "", kind: str = "deployment/") -> Callable[[Arguments, Options], list[str]]:
    """`kubectl rollout restart -n shop deployment/web`."""

    def make(given: Arguments, options: Options) -> list[str]:
        namespace, name = _halves(_at(given, 0))
        container = given[1] if len(given) > 1 else options.get("container", after)
        return ["kubectl", *words, "-n", namespace, f"{kind}{name}", *(["-c", str(container)] if container else [])]

    return make


def _asked(*words: str, count: int = 1, **names: str) -> Callable[[Arguments, Options], list[str]]:
    """A command of labkit: its arguments in their places, its options by their names (`--level` for the second)."""

    def make(given: Arguments, options: Options) -> list[str]:
        line = ["labkit", *words, *(_at(given, place) for place in range(count))]
        extra = dict(zip(names, given[count:], strict=False))
        for name, value in {**extra, **options}.items():
            shown = names.get(name, "").removeprefix("-") or name.replace("_", "-")
            line += [f"--{shown}", _word(value, name.upper())]
        return line

    return make


def _ready(given: Arguments, _options: Options) -> list[str]:
    if "/" in _at(given, 0):
        return _of_workload("rollout", "status")(given, {})
    return ["kubectl", "wait", "-n", _at(given, 0), "--for=condition=Ready", "pods", "--all"]


def _label(given: Arguments, _options: Options) -> list[str] | None:
    labels = given[1] if len(given) > 1 and isinstance(given[1], dict) else {"istio-injection": "enabled"}
    said = [f"{key}-" if value is None else f"{key}={value}" for key, value in labels.items()]
    return ["kubectl", "label", "namespace", _at(given, 0, "NAMESPACE"), *said]


def _platform(given: Arguments, options: Options) -> list[str]:
    return ["labkit", "platform", _at(given, 0), *(f"--set {key}={value}" for key, value in options.items())]


def _configured(_given: Arguments, options: Options) -> list[str]:
    files = [f"-f {one}" for one in _given if isinstance(one, str)]
    return ["labkit", "mesh", "configure", *files, *(f"--set {one}" for one in options.get("set", ()))]


COMMANDS: Mapping[str, Callable[[Arguments, Options], list[str] | None]] = {
    "open": lambda given, _: ["--cluster", _at(given, 0, "CONTEXT").strip("'").replace("<context>", "CONTEXT")],
    "pods": _listing("pods"),
    "sidecars": _listing("pods"),
    "deployments": _listing("deployments"),
    "services": _listing("services"),
    "events": _listing("events"),
    "namespaces": _fixed("kubectl", "get", "namespaces", "--show-labels"),
    "create_namespace": lambda given, _: ["kubectl", "create", "namespace", _at(given, 0)],
    "label_namespace": _label,
    "delete": lambda given, _: ["kubectl", "delete", "-f", _at(given, 0, "FILE")],
    "restart": _of_workload("rollout", "restart"),
    "logs": _of_workload("logs"),
    "describe_pod": lambda given, _: ["labkit", "describe", "pod", _at(given, 0)],
    "describe": _asked("describe", "pod"),
    "wait_until_ready": _ready,
    "mesh_status": _fixed("labkit", "mesh", "status"),
    "install_mesh": _fixed("labkit", "mesh", "install"),
    "uninstall_mesh": _fixed("labkit", "mesh", "uninstall"),
    "install_gateway": _fixed("labkit", "mesh", "install", "--gateway"),
    "install_prometheus": _fixed("labkit", "prometheus", "install"),
    "prometheus": lambda given, _: ["--where", _at(given, 0)],
    "configure_mesh": _configured,
    "platform": _platform,
    "set_mtls_mode": lambda _given, _options: ["labkit mode MODE NAMESPACE --workload NAME --port PORT"],
    "effective_mtls": lambda given, _: ["labkit", "map", *(map(str, given)), "--table"],
    "explain": lambda given, _: ["labkit", "explain", *(str(one) for one in given if one is not ...)],
    "analyze": _fixed("labkit", "analyze"),
    "certificate": lambda given, _: ["labkit", "certificate", _at(given, 0), *map(str, given[1:])],
    "certificate_of": _asked("certificate"),
    "proxy_status": _fixed("labkit", "proxy-status"),
    "proxy_config": _asked("proxy-config", count=2, cluster="envoy-cluster"),
    "proxy_log": _asked("proxy-log", level="level"),
    "metrics": lambda _given, _options: ["labkit", "metrics"],
    "rates": lambda _given, options: ["labkit", "metrics", "--seconds", str(options.get("seconds", 10))],
    "disagreements": lambda _given, options: ["labkit", "disagreements", "--seconds", str(options.get("seconds", 5))],
    "world": _asked("world"),
    "reset": _asked("reset"),
    "drill": _asked("drill", "start"),
    "drills": _fixed("labkit", "drill", "list"),
    "check_drill": _fixed("labkit", "drill", "check", "NAME"),
}
"""The command of each verb that has one."""
