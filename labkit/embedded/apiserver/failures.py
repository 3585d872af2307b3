"""What a client is told when a request fails: a `Status` object with code, reason, message and details.

Every refusal of the API server is a `StatusError`; nothing else may reach the client. Messages have the words of
Kubernetes, because people and programs search for them
(https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


class StatusError(Exception):
    """A request that fails with a Status. `details` is the Status' own `details`."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def as_status(self) -> Object:
        """The Status object of this failure."""
        status: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        status |= {"message": self.message, "reason": self.reason}
        if self.details:
            status["details"] = self.details
        return status | {"code": self.code}


@dataclass(frozen=True)
class Cause:
    """One wrong field: `reason` is the machine's word, `text` the words after the field's name."""

    field: str
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.field}: {self.text}" if self.field else self.text

    def as_json(self) -> Object:
        return {"reason": self.reason, "message": self.text, "field": self.field}


def required(field: str, hint: str = "") -> Cause:
    """A value that must be there."""
    return Cause(field, "FieldValueRequired", f"Required value{': ' + hint if hint else ''}")


def invalid(field: str, value: object, hint: str) -> Cause:
    """A value that is wrong, shown as Go shows it."""
    return Cause(field, "FieldValueInvalid", f"Invalid value: {go_value(value)}: {hint}")


def forbidden_field(field: str, hint: str) -> Cause:
    """A value that may not be set."""
    return Cause(field, "FieldValueForbidden", f"Forbidden: {hint}")


def not_supported(field: str, value: object, supported: Sequence[str]) -> Cause:
    """A value outside an enumeration."""
    words = ", ".join(f'"{word}"' for word in supported)
    return Cause(field, "FieldValueNotSupported", f"Unsupported value: {go_value(value)}: supported values: {words}")


def duplicate(field: str, value: object) -> Cause:
    """A value that must be unique and is not."""
    return Cause(field, "FieldValueDuplicate", f"Duplicate value: {go_value(value)}")


def go_value(value: object) -> str:
    """A JSON value as Kubernetes' messages print it."""
    import json

    return json.dumps(value, separators=(",", ":"))


def _qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def _details(name: str, group: str, kind: str, **more: Any) -> Object:
    details: Object = {"name": name} if name else {}
    if group:
        details["group"] = group
    return details | {"kind": kind} | more


def not_found(plural: str, group: str, name: str) -> StatusError:
    """404 for an object."""
    message = f'{_qualified(plural, group)} "{name}" not found'
    return StatusError(404, "NotFound", message, _details(name, group, plural))


def no_such_path() -> StatusError:
    """404 for a URL that nothing serves; kubectl makes `the server doesn't have a resource type` of it."""
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, group: str, name: str) -> StatusError:
    """409 on create."""
    message = f'{_qualified(plural, group)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(name, group, plural))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(plural: str, group: str, name: str, why: str = MODIFIED) -> StatusError:
    """409 on update: somebody else was faster."""
    message = f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {why}'
    return StatusError(409, "Conflict", message, _details(name, group, plural))


def invalid_object(kind: str, group: str, name: str, causes: Sequence[Cause]) -> StatusError:
    """422 with every wrong field."""
    texts = [str(cause) for cause in causes]
    joined = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    qualified = f"{kind}.{group}" if group else kind
    details = _details(name, group, kind, causes=[cause.as_json() for cause in causes])
    return StatusError(422, "Invalid", f'{qualified} "{name}" is invalid: {joined}', details)


def bad_request(message: str) -> StatusError:
    """400: the request itself is malformed."""
    return StatusError(400, "BadRequest", message)


def forbidden(plural: str, group: str, name: str, why: str) -> StatusError:
    """403."""
    message = f'{_qualified(plural, group)} "{name}" is forbidden: {why}'
    return StatusError(403, "Forbidden", message, _details(name, group, plural))


def method_not_allowed() -> StatusError:
    """405: this resource has no such verb."""
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def unauthorized() -> StatusError:
    """401: no or a wrong credential."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def unsupported_media_type(accepted: Sequence[str]) -> StatusError:
    """415: a body in a format that this resource does not take."""
    words = ", ".join(accepted)
    message = f"the body of the request was in an unknown format - accepted media types include: {words}"
    return StatusError(415, "UnsupportedMediaType", message)


def expired(message: str) -> StatusError:
    """410: the version asked for is no longer in the history."""
    return StatusError(410, "Expired", message)


def version_too_large(version: int, current: int) -> StatusError:
    """504: a version that is still to come, which a real server waits for in vain."""
    message = f"Too large resource version: {version}, current: {current}"
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    return StatusError(504, "Timeout", message, {"causes": causes, "retryAfterSeconds": 1})


def timed_out(message: str) -> StatusError:
    """504: the request was not complete in time."""
    return StatusError(504, "Timeout", f"Timeout: {message}")


def too_large(limit: int) -> StatusError:
    """413: the body is larger than the server reads."""
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def unavailable(message: str) -> StatusError:
    """503: a part of the cluster that the request needs does not answer."""
    return StatusError(503, "ServiceUnavailable", message)
