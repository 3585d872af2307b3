"""The patch kinds: JSON patch, merge patch, strategic merge patch, and server-side apply. Pure.

https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
"""

from __future__ import annotations

from typing import Any

from labkit.embedded.apiserver.failures import StatusError, bad_request, unsupported_media_type
from labkit.embedded.apiserver.resources import Kind
from labkit.embedded.apiserver.storage import encode
from labkit.embedded.apiserver.strategic import strategic_merge

Object = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)

MAX_OPERATIONS = 10_000  # Kubernetes' own limit for a JSON patch
COPY_LIMIT = 3 * 1024 * 1024  # and its limit for what copies add: each can double what is there


def types_for(kind: Kind) -> tuple[str, ...]:
    """The media types of patches that a kind takes: custom resources have no merge keys for a strategic one."""
    return tuple(media for media in PATCH_TYPES if not (kind.custom and media == STRATEGIC_PATCH))


def apply_patch(kind: Kind, media: str, obj: Object, patch: Any) -> Object:
    """`obj` with the patch applied; `obj` may be changed. Raises 400, 415 or 422."""
    if media == JSON_PATCH:
        return _json_patch(obj, patch)
    if not isinstance(patch, dict):
        raise bad_request("json: cannot unmarshal array into Go value of type map[string]interface {}")
    if media == MERGE_PATCH:
        merged = merge_patch(obj, patch)
    elif media == STRATEGIC_PATCH and not kind.custom:
        merged = strategic_merge(kind.model, obj, patch)
    else:
        raise unsupported_media_type(types_for(kind))
    if not isinstance(merged, dict):
        raise bad_request("the patch does not yield an object")
    return merged


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result: Object = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _json_patch(obj: Object, patch: Any) -> Object:
    import jsonpatch
    import jsonpointer

    if not isinstance(patch, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    if len(patch) > MAX_OPERATIONS:
        raise StatusError(
            413, "RequestEntityTooLarge", f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}"
        )
    result: Any = obj
    copied = 0
    try:
        for operation in patch:
            if isinstance(operation, dict) and operation.get("op") == "copy":
                copied += len(encode(jsonpointer.resolve_pointer(result, str(operation.get("from")))))
                if copied > COPY_LIMIT:
                    why = f"Unable to complete, the copy operations copy more than {COPY_LIMIT} bytes"
                    raise StatusError(413, "RequestEntityTooLarge", why)
            result = jsonpatch.apply_patch(result, [operation], in_place=True)
    except jsonpatch.InvalidJsonPatch as error:
        raise bad_request(f"error decoding patch: {error}") from None
    except jsonpatch.JsonPatchTestFailed:
        path = operation.get("path")
        message = f"the server rejected our request due to an error in our request: testing value {path} failed"
        raise StatusError(422, "Invalid", message) from None
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        message = f"the server rejected our request due to an error in our request: {error}"
        raise StatusError(422, "Invalid", message) from None
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError) as error:
        # The library trips over operations that are no objects, or paths that are no text.
        raise bad_request(f"error decoding patch: {error}") from None
    if not isinstance(result, dict):
        raise bad_request("the patch does not yield an object")
    return result
