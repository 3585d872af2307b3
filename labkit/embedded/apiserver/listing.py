"""Lists: which version of a collection is shown, and how it is cut into pages.

https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
"""

from __future__ import annotations

import base64
import json
from typing import Any

from labkit.embedded.apiserver.failures import (
    bad_request,
    expired,
    forbidden_field,
    invalid_object,
    not_supported,
    version_too_large,
)
from labkit.embedded.apiserver.requests import is_true
from labkit.embedded.apiserver.storage import Record, Storage, encode
from labkit.embedded.apiserver.watching import View

Object = dict[str, Any]


def integer(query: Any, name: str) -> int | None:
    """A whole number in the query, or None. Raises 400."""
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 19):
        raise bad_request(f'invalid query parameter {name}: strconv.ParseInt: parsing "{text[:40]}": invalid syntax')
    return int(text)


def version_in(query: Any) -> int | None:
    """The `resourceVersion` in the query; None where it is left out. Raises 400."""
    text = query.get("resourceVersion", "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise bad_request(f'resourceVersion: Invalid value: "{text[:40]}": strconv.ParseUint: invalid syntax')
    return int(text) if text else None


def check_list_options(query: Any) -> None:
    """Refuse combinations that mean nothing, as Kubernetes does. Raises 422."""
    match, version = query.get("resourceVersionMatch", ""), query.get("resourceVersion", "")
    if not match:
        return
    field, why = "resourceVersionMatch", ""
    if is_true(query.get("watch")):
        why = "" if is_true(query.get("sendInitialEvents")) else "resourceVersionMatch is forbidden for watch"
    elif not version:
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif query.get("continue"):
        why = "resourceVersionMatch is forbidden when continue is provided"
    elif match == "Exact" and version == "0":
        why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
    causes = [forbidden_field(field, why)] if why else []
    if match not in ("Exact", "NotOlderThan"):
        causes.append(not_supported(field, match, ("Exact", "NotOlderThan", "")))
    if causes:
        raise invalid_object("ListOptions", "meta.k8s.io", "", causes)


def page(storage: Storage, query: Any, view: View, version: int | None, metadata: Object) -> list[Record]:
    """One page: what there is, or was; `metadata` says of which version, and how to go on.

    The pages of a list all show the state of the first.
    https://kubernetes.io/docs/reference/using-api/api-concepts/#the-resourceversion-parameter
    """
    limit = integer(query, "limit") or 0
    start: list[str] = []
    shown = storage.version
    if token := query.get("continue", ""):
        if version:
            raise bad_request("specifying resource version is not allowed when using continue")
        shown, start = _continue_from(storage, token)
    else:
        if version and version > storage.version:
            raise version_too_large(version, storage.version)
        # A version with a limit is meant exactly, unless the client says otherwise.
        exact = query.get("resourceVersionMatch") or ("Exact" if limit > 0 else "")
        shown = version if version and exact == "Exact" else shown
    metadata["resourceVersion"] = str(shown)
    resource = view.kind.resource
    if shown == storage.version:
        records = storage.records(resource, view.namespace)
    else:
        records = storage.records_at(shown, resource, view.namespace)
    records = [r for r in records if [r.namespace, r.name] > start and view.matches(r)]
    if limit <= 0 or len(records) <= limit:
        return records
    last = records[limit - 1]
    position = {"v": "meta.k8s.io/v1", "rv": int(metadata["resourceVersion"]), "start": [last.namespace, last.name]}
    metadata["continue"] = base64.urlsafe_b64encode(encode(position)).decode()
    if not (query.get("labelSelector") or query.get("fieldSelector")):
        metadata["remainingItemCount"] = len(records) - limit
    return records[:limit]


def _continue_from(storage: Storage, token: str) -> tuple[int, list[str]]:
    try:
        position = json.loads(base64.urlsafe_b64decode(token))
        version, start = int(position["rv"]), [str(part) for part in position["start"]]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise bad_request("continue key is not valid") from None
    if not 0 < version <= storage.version:
        raise bad_request("continue key is not valid")
    if version < storage.oldest_version:
        raise expired("The provided continue parameter is too old to display a consistent list result.")
    return version, start
