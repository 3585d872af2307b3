"""Reading manifests: a path, a directory, YAML text, an object or a list of them becomes a list of documents.

Reads files and nothing else; whether a cluster accepts a document is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labkit.cluster.kinds import Obj
from labkit.errors import InputError

Source = str | Path | Mapping[str, Any] | Iterable[Any]
"""What can be applied: a path, a directory, YAML text, an object, or a list of these."""

SHOWN_OF_A_LINE = 100
"""Characters of a wrong line that a message shows: a line of YAML is shorter, and a picture's is endless."""


@dataclass(frozen=True)
class Document:
    """One object of a manifest, and where it was read."""

    obj: Obj
    source: str = ""

    @property
    def api_version(self) -> str:
        return str(self.obj["apiVersion"])

    @property
    def kind(self) -> str:
        return str(self.obj["kind"])

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    @property
    def namespace(self) -> str | None:
        namespace = self.obj["metadata"].get("namespace")
        return str(namespace) if namespace else None

    def __str__(self) -> str:
        where = f" of {self.source}" if self.source else ""
        return f"{self.kind} {self.name}{where}"


def repository_root() -> Path:
    """The directory that holds `manifests/`: above the working directory, else above the package."""
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / "manifests").is_dir():
            return directory
    return Path(__file__).resolve().parents[2]


def find_path(name: str | Path) -> Path:
    """The file or directory for a path that is relative to the working directory or to the repository."""
    path = Path(name).expanduser()
    for candidate in (path, repository_root() / path):
        if candidate.exists():
            return candidate
    looked = dict.fromkeys(str(one) for one in (Path.cwd(), repository_root()))  # often the same directory
    raise InputError(
        f"There is no file {str(name)!r}.",
        meaning="" if path.is_absolute() else f"Looked in {' and '.join(looked)}.",
        next_step="Give a path such as 'manifests/lessons/04/peer-authentication.yaml'.",
        path=str(name),
    )


def shown_path(path: Path) -> str:
    """The path as one would type it at the top of the repository."""
    try:
        return str(path.resolve().relative_to(repository_root().resolve()))
    except ValueError:
        return str(path)


def looks_like_path(source: str) -> bool:
    """Whether a string is a path and not YAML text: one line, no comment, and no `key: value` in it."""
    text = source.strip()
    return bool(text) and "\n" not in text and ": " not in text and not text.endswith(":") and not text.startswith("#")


def manifest_files(path: Path) -> list[Path]:
    """The file itself, or the YAML files of a directory in the order in which kubectl takes them."""
    if path.is_file():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml", ".json"))
    if not files:
        raise InputError(f"The directory {path} holds no manifests.", next_step="Give a directory with *.yaml files.")
    return files


def load_documents(source: Source) -> list[Document]:
    """All documents of `source`, each checked to have apiVersion, kind and metadata.name. Raises InputError."""
    if isinstance(source, Mapping):
        return _expand(dict(source), "")
    if isinstance(source, Path) or (isinstance(source, str) and looks_like_path(source)):
        return [
            document
            for file in manifest_files(find_path(source))
            for document in parse_documents(file.read_text(encoding="utf-8"), shown_path(file))
        ]
    if isinstance(source, str):
        return parse_documents(source)
    if not isinstance(source, Iterable):
        raise InputError(
            f"{source!r} cannot be applied.",
            meaning="Nothing was changed.",
            next_step="Give a path, a directory, YAML text, an object, or a list of these.",
        )
    return [document for part in source for document in load_documents(part)]


def parse_documents(text: str, source: str = "") -> list[Document]:
    """All documents of a YAML text. Raises InputError with line and column when it is not YAML."""
    where = f" in {source}" if source else ""
    try:
        objects = [obj for obj in yaml.safe_load_all(text) if obj is not None]
    except yaml.MarkedYAMLError as error:
        raise invalid_yaml(error, text, source) from error
    except yaml.YAMLError as error:
        raise InputError(f"The manifest{where} is not valid YAML: {error}", next_step="Correct it.") from error
    documents = [document for obj in objects for document in _expand(obj, source)]
    if not documents:
        raise InputError(f"There is no object{where}.", next_step="Give a manifest with apiVersion, kind and metadata.")
    return documents


def invalid_yaml(error: yaml.MarkedYAMLError, text: str, source: str) -> InputError:
    """The error for a text that is not YAML: where, and what the line reads."""
    lines = text.splitlines()
    # Where the text ends too early, the place to look at is where the unfinished part began.
    marks = [mark for mark in (error.problem_mark, error.context_mark) if mark]
    mark = next((mark for mark in marks if mark.line < len(lines) and lines[mark.line].strip()), None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (len(lines), 1)
    shown = lines[line - 1].strip()[:SHOWN_OF_A_LINE] if lines else ""
    problem = (error.problem or "cannot be read").strip()
    return InputError(
        f"Invalid YAML{f' in {source}' if source else ''}, line {line}, column {column}: {problem}.",
        meaning=f"Nothing was changed. The line reads: {shown!r}",
        next_step="Look at the indentation (spaces, never tabs) and the colons around that line.",
        line=line,
        column=column,
        source=source,
    )


def _expand(obj: Any, source: str) -> list[Document]:
    where = f" in {source}" if source else ""
    if not isinstance(obj, dict):
        raise InputError(
            f"A Kubernetes object{where} must be a mapping, and this is {type(obj).__name__}: {str(obj)[:60]!r}.",
            meaning="Nothing was changed.",
            next_step="Start with apiVersion, kind and metadata.",
        )
    if obj.get("kind") == "List" and isinstance(obj.get("items"), list):
        return [document for item in obj["items"] for document in _expand(item, source)]
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    fields = (("apiVersion", obj.get("apiVersion")), ("kind", obj.get("kind")), ("metadata.name", name))
    missing = [field for field, value in fields if not (value and isinstance(value, str))]
    if missing:
        raise InputError(
            f"A manifest{where} lacks {' and '.join(missing)}.",
            meaning="Every Kubernetes object names its apiVersion, kind and metadata.name. Nothing was changed.",
            next_step=f"Add {missing[0]} (a text).",
            missing=tuple(missing),
        )
    return [Document(obj, source)]
